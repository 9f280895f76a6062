//! What each way to a database offers: the capabilities that exercises may
//! count on, what cannot be taught on it, and what was never seen to work. The
//! table in `docs/database/choosing.md` is made from here ([`choosing_table`]).

use std::collections::BTreeSet;

use super::{MongodbSource, PostgresSource};
use crate::Capability;

impl Capability {
    /// Every capability, databases' own first.
    pub const ALL: [Self; 7] = [
        Self::Mongodb,
        Self::Transactions,
        Self::ChangeStreams,
        Self::Vector,
        Self::AtlasSearch,
        Self::Postgres,
        Self::Pgvector,
    ];

    /// Returns the name as it is written in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mongodb => "mongodb",
            Self::AtlasSearch => "atlas-search",
            Self::Vector => "vector",
            Self::Transactions => "transactions",
            Self::ChangeStreams => "change-streams",
            Self::Postgres => "postgres",
            Self::Pgvector => "pgvector",
        }
    }

    /// Returns what it is, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Mongodb => "MongoDB",
            Self::AtlasSearch => "Atlas Search",
            Self::Vector => "vector search",
            Self::Transactions => "transactions",
            Self::ChangeStreams => "change streams",
            Self::Postgres => "PostgreSQL",
            Self::Pgvector => "pgvector",
        }
    }

    /// Returns whether it is one of MongoDB's.
    pub fn is_of_mongodb(self) -> bool {
        !matches!(self, Self::Postgres | Self::Pgvector)
    }
}

impl MongodbSource {
    /// Every way to a MongoDB.
    pub const ALL: [Self; 4] = [Self::BuiltIn, Self::Mongod, Self::AtlasLocal, Self::Uri];

    /// Returns how people call it.
    pub fn title(&self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in database (DocumentDB)",
            Self::Mongod => "mongod of this machine",
            Self::AtlasLocal => "mongodb-atlas-local in Docker",
            Self::Uri => "configured MongoDB",
        }
    }

    /// Returns what `arena.database.mongodb` says for it.
    pub fn choice(&self) -> &'static str {
        match self {
            Self::BuiltIn => "builtin",
            Self::Mongod => "mongod",
            Self::AtlasLocal => "atlas-local",
            Self::Uri => "mongodb://… or mongodb+srv://…",
        }
    }

    /// Returns when it is used without being asked for.
    pub fn when(&self) -> &'static str {
        match self {
            Self::BuiltIn => "nothing else is there",
            Self::Mongod => "`mongod` is on PATH or in the tool cache",
            Self::AtlasLocal => "only when chosen",
            Self::Uri => "only when configured",
        }
    }

    /// Returns what it can do. For a configured server this is what a replica set or sharded
    /// cluster of MongoDB can; [`super::Target`] may know better.
    pub fn capabilities(&self) -> BTreeSet<Capability> {
        use Capability::{AtlasSearch, ChangeStreams, Mongodb, Transactions, Vector};
        match self {
            Self::BuiltIn => BTreeSet::from([Mongodb, Transactions, Vector]),
            Self::Mongod | Self::Uri => BTreeSet::from([Mongodb, Transactions, ChangeStreams]),
            Self::AtlasLocal => {
                BTreeSet::from([Mongodb, Transactions, ChangeStreams, Vector, AtlasSearch])
            }
        }
    }

    /// Returns what of a MongoDB was never seen on it; `None` for what CI runs.
    pub fn unseen(&self) -> Option<&'static str> {
        match self {
            Self::BuiltIn | Self::Uri => None,
            Self::Mongod => Some(
                "experimental: no real mongod was there to try it with; its start, replica set and users are written by its manual",
            ),
            Self::AtlasLocal => Some(
                "experimental: no Docker engine was there to try it with; only its command lines are tested",
            ),
        }
    }

    /// Returns how to get a database that can do more.
    pub fn better(&self) -> Option<&'static str> {
        match self {
            Self::BuiltIn => Some(
                "for change streams put `mongod` on PATH, or name a replica set with arena.database.mongodb; \
                 for Atlas Search choose atlas-local (needs Docker)",
            ),
            Self::Mongod | Self::Uri => {
                Some("for Atlas Search and its vector search choose atlas-local (needs Docker)")
            }
            Self::AtlasLocal => None,
        }
    }
}

impl PostgresSource {
    /// Every way to a PostgreSQL.
    pub const ALL: [Self; 2] = [Self::BuiltIn, Self::Uri];

    /// Returns how people call it.
    pub fn title(&self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in PostgreSQL 18",
            Self::Uri => "configured PostgreSQL",
        }
    }

    /// Returns what it can do.
    pub fn capabilities(&self) -> BTreeSet<Capability> {
        match self {
            Self::BuiltIn => BTreeSet::from([Capability::Postgres, Capability::Pgvector]),
            Self::Uri => BTreeSet::from([Capability::Postgres]),
        }
    }
}

/// Returns the table of ways to a database, in Markdown.
pub fn choosing_table() -> String {
    let offered = |capabilities: &BTreeSet<Capability>, mongodb: bool| {
        let all = Capability::ALL
            .into_iter()
            .filter(|one| one.is_of_mongodb() == mongodb);
        let (can, cannot): (Vec<_>, Vec<_>) = all.partition(|one| capabilities.contains(one));
        (named(&can), named(&cannot))
    };
    let mut text = "| MongoDB from | `arena.database.mongodb` | used when | can be taught | cannot be taught |\n\
                    |---|---|---|---|---|\n"
        .to_owned();
    for source in MongodbSource::ALL {
        let (can, cannot) = offered(&source.capabilities(), true);
        let mark = if source.unseen().is_some() { " ¹" } else { "" };
        text.push_str(&format!(
            "| {}{mark} | `{}` | {} | {can} | {cannot} |\n",
            source.title(),
            source.choice(),
            source.when(),
        ));
    }
    text.push_str("\n| PostgreSQL from | `arena.database.postgres` | can be taught | cannot be taught |\n|---|---|---|---|\n");
    for source in PostgresSource::ALL {
        let (can, cannot) = offered(&source.capabilities(), false);
        let choice = match source {
            PostgresSource::BuiltIn => "left out",
            PostgresSource::Uri => "`postgres://…`",
        };
        text.push_str(&format!(
            "| {} | {choice} | {can} | {cannot} |\n",
            source.title()
        ));
    }
    text.push_str("\n¹ Experimental:\n\n");
    for source in MongodbSource::ALL {
        if let Some(unseen) = source.unseen() {
            let what = unseen.trim_start_matches("experimental: ");
            text.push_str(&format!("- {}: {what}.\n", source.title()));
        }
    }
    text
}

fn named(capabilities: &[Capability]) -> String {
    if capabilities.is_empty() {
        return "–".to_owned();
    }
    let titles: Vec<&str> = capabilities.iter().map(|one| one.title()).collect();
    titles.join(", ")
}
