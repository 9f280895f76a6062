//! Source texts and the mistakes found in them. A [`Problem`] knows its place
//! and what to write instead; [`Problems`] collects all of them, so that one
//! run shows every mistake.

use std::fmt;

use serde::Serialize;

/// A line is shown up to this many characters.
const EXCERPT_LENGTH_MAX: usize = 200;

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
        Self {
            name: name.into(),
            bytes: bytes.into(),
        }
    }

    /// Returns a problem at `span` of this file, its line cut out for showing.
    pub fn problem(&self, severity: Severity, span: Span, message: impl Into<String>) -> Problem {
        let excerpt = (span.line > 0 && span.column < EXCERPT_LENGTH_MAX)
            .then(|| self.line_around(span.start))
            .filter(|line| !line.is_empty());
        Problem {
            severity,
            file: self.name.clone(),
            span: Some(span),
            excerpt,
            message: message.into(),
            hint: None,
        }
    }

    /// Returns the line around a byte, without control characters (they could drive a terminal).
    fn line_around(&self, offset: usize) -> String {
        let offset = offset.min(self.bytes.len());
        let start = self.bytes[..offset]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let rest = &self.bytes[start..];
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(rest.len());
        let line = String::from_utf8_lossy(&rest[..end.min(4 * EXCERPT_LENGTH_MAX)]);
        let line = line.trim_start_matches('\u{feff}').trim_end();
        line.chars()
            .take(EXCERPT_LENGTH_MAX)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
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

    /// Returns the same problem without the line of text, which holds a secret.
    #[must_use]
    pub fn without_excerpt(mut self) -> Self {
        self.excerpt = None;
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
        self.0
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }

    /// Puts them in order of file and place; one place keeps the order of finding.
    pub fn sort(&mut self) {
        self.0.sort_by(|one, other| {
            let key = |problem: &Problem| problem.span.map(|span| (span.line, span.column));
            one.file.cmp(&other.file).then(key(one).cmp(&key(other)))
        });
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns them in order.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    /// Writes each problem, an empty line between two.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
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
                let indent = span.column.saturating_sub(1).min(EXCERPT_LENGTH_MAX);
                let width = excerpt
                    .chars()
                    .count()
                    .saturating_sub(indent)
                    .min(span.end.saturating_sub(span.start))
                    .max(1);
                let number = span.line.to_string();
                writeln!(f, "{:1$} |", "", number.len() + 1)?;
                writeln!(f, " {number} | {excerpt}")?;
                writeln!(
                    f,
                    "{:1$} | {2:3$}{4}",
                    "",
                    number.len() + 1,
                    "",
                    indent,
                    "^".repeat(width)
                )?;
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
