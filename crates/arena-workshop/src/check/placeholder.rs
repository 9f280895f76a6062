//! The one placeholder syntax: `{{ name.path }}`, such as `{{ page[0].name }}`,
//! `{{ page.*.name }}` (that field of every row) or `{{ page.length }}`.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Paths are written by people: longer ones are mistakes.
const SEGMENTS_MAX: usize = 20;

/// A name and the way into its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// The bound name.
    pub name: String,
    /// The way into its value.
    pub path: Vec<Segment>,
}

/// A step of the way into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A field.
    Key(String),
    /// A row, from 0.
    Index(usize),
    /// Every row.
    Every,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// A placeholder.
    Value(Reference),
}

/// A text whose placeholders cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlaceholderError {
    /// `{{` without `}}`.
    #[error("`{{{{` is not closed by `}}}}`")]
    Open,
    /// Something else than a name and a path.
    #[error("`{0}` is not a placeholder: write a name and a path such as `page[0].name`")]
    Path(String),
}

/// Cuts a text at its placeholders.
///
/// # Errors
/// When a placeholder is not closed or is not a name and a path.
pub fn pieces(text: &str) -> Result<Vec<Piece>, PlaceholderError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inner, behind) = after.split_once("}}").ok_or(PlaceholderError::Open)?;
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Value(Reference::parse(inner.trim())?));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

impl Reference {
    /// Reads a name and a path, such as `body[0].name`.
    ///
    /// # Errors
    /// When the text is something else.
    pub fn parse(text: &str) -> Result<Self, PlaceholderError> {
        let wrong = || PlaceholderError::Path(text.to_owned());
        let mut segments = Vec::new();
        let mut rest = text;
        let name = take_key(&mut rest)
            .filter(|name| !name.starts_with(|first: char| first.is_ascii_digit()));
        let name = name.ok_or_else(wrong)?;
        while !rest.is_empty() {
            let segment = if let Some(after) = rest.strip_prefix('[') {
                let (digits, behind) = after.split_once(']').ok_or_else(wrong)?;
                rest = behind;
                match digits {
                    "*" => Segment::Every,
                    digits => Segment::Index(digits.parse().map_err(|_| wrong())?),
                }
            } else {
                rest = rest.strip_prefix('.').ok_or_else(wrong)?;
                match rest.strip_prefix('*') {
                    Some(behind) => {
                        rest = behind;
                        Segment::Every
                    }
                    None => {
                        let key = take_key(&mut rest).ok_or_else(wrong)?;
                        key.parse().map(Segment::Index).unwrap_or(Segment::Key(key))
                    }
                }
            };
            segments.push(segment);
            if segments.len() > SEGMENTS_MAX {
                return Err(wrong());
            }
        }
        Ok(Self {
            name,
            path: segments,
        })
    }

    /// Returns whether the path goes through every row, so that it stands for a list.
    pub fn is_of_every_row(&self) -> bool {
        self.path.contains(&Segment::Every)
    }
}

/// Takes letters, digits, `_`, `-` and `$` from the front.
fn take_key(rest: &mut &str) -> Option<String> {
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '$')))
        .unwrap_or(rest.len());
    let (key, behind) = rest.split_at(end);
    *rest = behind;
    (!key.is_empty()).then(|| key.to_owned())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for segment in &self.path {
            match segment {
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Every => f.write_str(".*")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = PlaceholderError;
    fn try_from(text: String) -> Result<Self, PlaceholderError> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}
