//! Text indexes as MongoDB has them (version 3): words and their stems, phrases,
//! scores. Pure: which documents there are, and what becomes of those found, is known
//! to `commands/texts.rs`. Begin reading at [`TextIndex::answer`].

mod index;
mod languages;
mod letters;
mod question;
mod words;

pub(crate) use index::{Found, TextIndex};
pub(crate) use question::Question;
pub(crate) use words::Sensitive;
