//! How a command ends badly: exit code, message, and what to do next. Every
//! failure is printed once, here.

use std::fmt;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};

use arena_workshop::Problems;

/// Exit codes (STYLE.md, rule 21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A check or exercise failed.
    CheckFailed,
    /// Wrong usage or configuration.
    Configuration,
    /// The environment refused: port, package, database.
    Environment,
    /// Our bug.
    Bug,
}

impl Kind {
    /// Returns the kind that a process of ours ended with.
    pub(crate) fn from_code(code: Option<i32>) -> Self {
        match code {
            Some(1) => Self::CheckFailed,
            Some(2) => Self::Configuration,
            Some(3) => Self::Environment,
            _ => Self::Bug,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::CheckFailed => 1,
            Self::Configuration => 2,
            Self::Environment => 3,
            Self::Bug => 70,
        }
    }
}

/// Why a command ends, for the person who must act.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    /// `None` when everything has been said already.
    error: Option<anyhow::Error>,
    hints: Vec<String>,
}

impl Failure {
    /// Returns a failure of that kind with the chain of causes.
    pub(crate) fn new(kind: Kind, error: impl Into<anyhow::Error>) -> Self {
        Self {
            kind,
            error: Some(error.into()),
            hints: Vec::new(),
        }
    }

    /// Returns a failure that the environment caused.
    pub(crate) fn environment(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Kind::Environment, error)
    }

    /// Returns a failure of usage or configuration.
    pub(crate) fn configuration(message: impl fmt::Display) -> Self {
        Self::new(Kind::Configuration, anyhow::anyhow!("{message}"))
    }

    /// Returns a failure of which everything has been printed.
    pub(crate) fn said(kind: Kind) -> Self {
        Self {
            kind,
            error: None,
            hints: Vec::new(),
        }
    }

    /// Prints the problems of a workshop's files and returns the failure that follows from them.
    pub(crate) fn problems(problems: &Problems) -> Self {
        for problem in problems.iter() {
            eprintln!("{problem}");
        }
        let errors = problems
            .iter()
            .filter(|problem| problem.severity == arena_workshop::Severity::Error)
            .count();
        eprintln!(
            "{errors} {} in the workshop's files; nothing was started",
            if errors == 1 { "mistake" } else { "mistakes" }
        );
        Self::said(Kind::Configuration)
    }

    /// Returns the same failure with what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns everything that it says as one text, for another process to show.
    pub(crate) fn told(&self) -> String {
        let error = self.error.as_ref().map(|error| format!("{error:#}"));
        let parts = error.into_iter().chain(self.hints.iter().cloned());
        parts.collect::<Vec<_>>().join("; ")
    }

    /// Prints it and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(error) = &self.error {
            eprintln!("{} {error}", paint("error:", Paint::Red));
            for cause in error.chain().skip(1) {
                eprintln!("  because {cause}");
            }
        }
        for hint in &self.hints {
            eprintln!("{} {hint}", paint("help:", Paint::Cyan));
        }
        ExitCode::from(self.kind.code())
    }
}

impl From<anyhow::Error> for Failure {
    /// An error that nobody classified is our bug.
    fn from(error: anyhow::Error) -> Self {
        Self::new(Kind::Bug, error)
    }
}

/// Colours for emphasis; meaning never hangs on them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Paint {
    /// Errors.
    Red,
    /// Things that are well.
    Green,
    /// Warnings.
    Yellow,
    /// Help and addresses.
    Cyan,
    /// Headings.
    Bold,
    /// Details.
    Dim,
}

/// 0: decide by terminal, 1: always, 2: never.
static COLOUR: AtomicU8 = AtomicU8::new(0);

/// Overrides the choice of colour for the whole process.
pub(crate) fn set_colour(always: bool) {
    COLOUR.store(if always { 1 } else { 2 }, Ordering::Relaxed);
}

/// Returns whether standard error shows colours.
pub(crate) fn colours() -> bool {
    match COLOUR.load(Ordering::Relaxed) {
        1 => true,
        2 => false,
        _ => {
            std::io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none()
                && std::env::var("TERM").as_deref() != Ok("dumb")
        }
    }
}

/// Returns the text in a colour, or as it is.
pub(crate) fn paint(text: &str, paint: Paint) -> String {
    if !colours() {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Red => "1;31",
        Paint::Green => "32",
        Paint::Yellow => "33",
        Paint::Cyan => "36",
        Paint::Bold => "1",
        Paint::Dim => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
