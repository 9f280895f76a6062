//! The workshop as typed values, and how its files become it. Begin at
//! [`Workshop::parse`]; the parts are parsed in [`crate::config`],
//! [`crate::participants`], [`crate::navigation`] and [`crate::check`].

mod content;
mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::config::Config;
use crate::navigation::Navigation;
use crate::participants::Participants;
use crate::source::{Problems, SourceFile};
use crate::{EventId, ExerciseSlug};

pub(crate) use parse::answer_files;

pub use content::{AppKeys, AppsKeys, ContentKeys, DataKeys, DataSetName};

/// The texts of an author's folder that decide what a workshop is. The caller reads them.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `config.yaml`; `None` when the folder has none.
    pub config: Option<SourceFile>,
    /// `user_list.csv` beside the config or in `atlas-cluster/`.
    pub participants: Option<SourceFile>,
    /// `arena/workshop.yaml`.
    pub workshop: Option<SourceFile>,
    /// Every `docs/_data/*.yml`, by path inside the workshop.
    pub navigations: BTreeMap<String, SourceFile>,
    /// Every `arena/exercises/*.yaml`, by path inside the workshop.
    pub exercises: BTreeMap<String, SourceFile>,
    /// Every file's path inside the workshop repository, `/`-separated, for questions such as
    /// "is there a `package-lock.json`", "does this exercise's file exist"; no contents.
    pub files: BTreeSet<String>,
    /// The content lies in a repository that has not been fetched: pages, exercises and apps are
    /// not known yet, and nothing is said of them.
    pub awaits_content: bool,
}

/// A workshop and its event, checked: the rest of Arena trusts it.
#[derive(Debug, Clone, PartialEq)]
pub struct Workshop {
    /// The event's id, from `customer.name`.
    pub event: EventId,
    /// Title shown to people: `arena.title` of the configuration, `arena/workshop.yaml`'s, else
    /// `customer.name`.
    pub title: String,
    /// The configuration as it was written, defaults filled in.
    pub config: Config,
    /// Seats: one for each row of the list, then the spare ones.
    pub participants: Participants,
    /// Pages that the scenario shows, in order.
    pub navigation: Navigation,
    /// Exercises that the scenario lists, in order of the navigation.
    pub exercises: Vec<Exercise>,
    /// Exercises that exist but are not listed: their answers are laid into every seat.
    pub needed_answers: BTreeSet<ExerciseSlug>,
    /// What the author says about apps and data in `arena/workshop.yaml`.
    pub content: ContentKeys,
    /// Every file's path inside the workshop, as in [`Sources::files`].
    pub files: BTreeSet<String>,
    /// What nobody configured and we chose, `key → value`, for showing.
    pub defaults: BTreeMap<String, String>,
}

/// A workshop that parsed, and what should be said about it (notes and warnings only).
#[derive(Debug, Clone)]
pub struct ParsedWorkshop {
    /// The values.
    pub workshop: Workshop,
    /// Notes and warnings; never errors.
    pub notes: Problems,
}

/// A task of the workshop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exercise {
    /// Such as `crud-1`.
    pub slug: ExerciseSlug,
    /// Title from its check file, else from the navigation.
    pub title: String,
    /// The page that tells it, such as `/crud/1/`.
    pub page: Option<String>,
    /// Files that the participant edits, inside the workshop, `/`-separated.
    pub files: Vec<String>,
    /// What it needs of a database or machine.
    pub needs: BTreeSet<Capability>,
    /// Exercises whose state this one needs.
    pub after: Vec<ExerciseSlug>,
    /// Hints, each with when it opens.
    pub hints: Vec<Hint>,
    /// What is verified, in order. Empty: the participant marks it as done, worth nothing.
    pub checks: Vec<Check>,
    /// SHA-256 (hex) of the check file: the version recorded with each attempt.
    pub version: String,
}

/// A hint and when it opens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hint {
    /// Opens after that many failed attempts (0: at once).
    pub after_attempts: u32,
    /// Opens that long after the exercise was first opened.
    pub after_time: Option<Duration>,
    /// Markdown.
    pub text: String,
}

/// What an exercise needs and a database or machine offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// A MongoDB-compatible database.
    Mongodb,
    /// Atlas Search indexes and stages.
    AtlasSearch,
    /// Vector search with vectors given in the query.
    Vector,
    /// Multi-document transactions.
    Transactions,
    /// Change streams.
    ChangeStreams,
    /// A PostgreSQL database.
    Postgres,
    /// PostgreSQL with the `vector` extension.
    Pgvector,
}

impl Workshop {
    /// Reads a workshop from its texts.
    ///
    /// # Errors
    /// All mistakes of all files at once, together with the notes and warnings; at least one of
    /// them is an error.
    pub fn parse(sources: &Sources) -> Result<ParsedWorkshop, Problems> {
        parse::parse(sources)
    }
}
