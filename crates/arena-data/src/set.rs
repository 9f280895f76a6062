//! The named data sets: what can be asked for, and in which shapes it comes.

use std::fmt;
use std::str::FromStr;

use bson::Document;
use serde::Serialize;
use serde_json::Value as Json;

use crate::listings::truth::Truth;
use crate::listings::{Listings, document, relational, truth};

/// Documents of a set, unless told otherwise: as many as the data set that it replaces.
const DOCUMENTS: u32 = 5555;
/// More would not be a workshop's data.
const DOCUMENTS_MAX: u32 = 1_000_000;
/// From here on every guarantee holds (see `docs/database/authors.md`).
pub(crate) const DOCUMENTS_GUARANTEED: u32 = 500;

/// A data set's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SetName {
    /// Holiday lettings: `listingsAndReviews` for MongoDB, five tables for PostgreSQL.
    Listings,
}

impl SetName {
    /// Every set.
    pub const ALL: [Self; 1] = [Self::Listings];

    /// Returns the name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listings => "listings",
        }
    }

    /// Returns one line about it.
    pub fn about(self) -> &'static str {
        match self {
            Self::Listings => {
                "holiday lettings with hosts and reviews: listingsAndReviews in MongoDB, five tables in PostgreSQL"
            }
        }
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|set| set.as_str() == text);
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|set| set.as_str()).collect();
            format!(
                "there is no data set `{text}`; there is: {}",
                names.join(", ")
            )
        })
    }
}

/// A data set, decided to the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DataSet {
    name: SetName,
    seed: u64,
    documents: u32,
}

impl DataSet {
    /// Returns the set with its usual number of documents and seed 1.
    pub fn new(name: SetName) -> Self {
        Self {
            name,
            seed: 1,
            documents: DOCUMENTS,
        }
    }

    /// Returns the set made from another seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Returns the set with so many documents, from 1 to 1,000,000; `None` for other numbers.
    #[must_use]
    pub fn with_documents(self, documents: u32) -> Option<Self> {
        (1..=DOCUMENTS_MAX)
            .contains(&documents)
            .then_some(Self { documents, ..self })
    }

    /// Returns its name.
    pub fn name(&self) -> SetName {
        self.name
    }

    /// Returns its seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns how many documents its main collection has.
    pub fn documents(&self) -> u32 {
        self.documents
    }

    /// Returns whether it is large enough for every guarantee to hold.
    pub fn holds_guarantees(&self) -> bool {
        self.documents >= DOCUMENTS_GUARANTEED
    }

    /// Returns the collection's name.
    pub fn collection(&self) -> &'static str {
        match self.name {
            SetName::Listings => "listingsAndReviews",
        }
    }

    /// Makes the collection's documents, in insertion order, one at a time.
    pub fn collection_documents(&self) -> impl Iterator<Item = Document> + use<> {
        Listings::new(self.seed, self.documents).map(|listing| document::of(&listing))
    }

    /// Makes the collection as lines of relaxed or canonical extended JSON.
    pub fn lines(&self, canonical: bool) -> impl Iterator<Item = String> + use<> {
        self.collection_documents().map(move |document| {
            let value = bson::Bson::Document(document);
            let json: Json = if canonical {
                value.into_canonical_extjson()
            } else {
                value.into_relaxed_extjson()
            };
            let mut line = json.to_string();
            line.push('\n');
            line
        })
    }

    /// Makes the relational form as SQL, a statement at a time; each ends with `;` and a line feed.
    pub fn sql(&self) -> impl Iterator<Item = String> + use<> {
        relational::statements(self.seed, self.documents)
    }

    /// Computes what right answers are.
    pub fn truth(&self) -> Truth {
        truth::of(self)
    }
}

impl fmt::Display for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (seed {}, {} documents)",
            self.name, self.seed, self.documents
        )
    }
}
