//! Source texts and the mistakes found in them. A [`Problem`] knows its place
//! and what to write instead; [`Problems`] collects all of them, so that one
//! run shows every mistake.

use std::fmt;

use serde::Serialize;

/// A file's text as it was read, with the name to show in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path as the user knows it, such as `examples/hello/config.yaml`.
    pub name: String,
    /// Bytes as read; may be anything, even binary.
    pub bytes: Vec<u8>,
}

/// A place in a source text: byte offsets, end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
    /// Line of the first byte, from 1.
    pub line: usize,
    /// Column of the first character, in characters from 1.
    pub column: usize,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing to do (such as a key that only matters in a cloud).
    Note,
    /// We go on, but probably not as meant.
    Warning,
    /// We cannot go on.
    Error,
}

/// One mistake (or note) with its place and a hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name as shown; empty when no file is meant.
    pub file: String,
    /// The place, where one is known.
    pub span: Option<Span>,
    /// The line of text around the place, for underlining.
    pub excerpt: Option<String>,
    /// What is wrong: a lower-case fragment without full stop.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// All problems of one run, in order of file and place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Problems(Vec<Problem>);

impl SourceFile {
    /// Returns a source file of that name and text.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }

    /// Returns a problem at `span` of this file, its line cut out for showing.
    pub fn problem(&self, severity: Severity, span: Span, message: impl Into<String>) -> Problem {
        let text = String::from_utf8_lossy(&self.bytes);
        let excerpt = text.lines().nth(span.line.saturating_sub(1)).map(|line| line.chars().take(200).collect());
        Problem { severity, file: self.name.clone(), span: Some(span), excerpt, message: message.into(), hint: None }
    }

    /// Returns an error at `span` of this file.
    pub fn error(&self, span: Span, message: impl Into<String>) -> Problem {
        self.problem(Severity::Error, span, message)
    }
}

impl Problem {
    /// Returns the same problem with a hint of what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Adds all of another run.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Returns whether any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Returns them in order.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problem {
    /// Writes the problem as people read it: place, line, underline, hint. No colour.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        writeln!(f, "{severity}: {}", self.message)?;
        if let Some(span) = self.span {
            writeln!(f, "  --> {}:{}:{}", self.file, span.line, span.column)?;
            if let Some(excerpt) = &self.excerpt {
                let width = excerpt.chars().count().saturating_sub(span.column - 1).min(span.end.saturating_sub(span.start)).max(1);
                let number = span.line.to_string();
                writeln!(f, "{:1$} |", "", number.len() + 1)?;
                writeln!(f, " {number} | {excerpt}")?;
                writeln!(f, "{:1$} | {2:3$}{4}", "", number.len() + 1, "", span.column - 1, "^".repeat(width))?;
            }
        } else if !self.file.is_empty() {
            writeln!(f, "  --> {}", self.file)?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "  help: {hint}")?;
        }
        Ok(())
    }
}
