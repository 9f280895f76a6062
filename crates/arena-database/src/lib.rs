//! Workshop databases: users, data, restore.
//!
//! The front is [`Provisioner`]: it loads the workshop's data once into a
//! template, makes each seat's databases as copies of it, restores and drops
//! them. Everything may be done twice: what is there already is left as it is,
//! and a seat's work is never overwritten except by [`Provisioner::restore_seat`].
//!
//! It speaks MongoDB commands to any server (the built-in one included) and SQL
//! to PostgreSQL. It verifies by logging in as the seat; it never reads what a
//! seat made with more rights than the seat has (a view there may be a trap).

mod address;
mod data;
mod database;
mod guard;
mod mongo;
pub mod mongod;
mod postgres;
mod provision;
mod quota;
pub mod remote;
mod scram;
mod shared;
mod tls;

use std::collections::BTreeMap;
use std::fmt;

use bson::Document;
use thiserror::Error;

pub use address::AddressError;
pub use arena_data::{Content, DataError, DataFile, DataSet, SetName};
pub use database::{Held, MongodbDatabase};
pub use guard::{PostgresLimits, PostgresUsage, Reason};
pub use provision::{Before, Loading, Progress, Provisioner};
pub use quota::Room;
pub use scram::scram_verifier;
pub use shared::{
    SHARED_DATABASE, SharedContents, SharedExercise, SharedHealth, SharedParticipant, SharedResult,
    SharedWriter,
};
pub use tls::{PostgresTls, TlsError};

use arena_workshop::DatabaseName;

/// Connections that a seat's role may have in PostgreSQL at once.
pub const POSTGRES_CONNECTIONS: u32 = 8;

/// A MongoDB server with a user who may do everything.
#[derive(Clone)]
pub struct MongodbAdmin {
    /// URI with user and password.
    pub uri: String,
}

/// A PostgreSQL server with a superuser, or (on a hosted one) a role that may make roles and databases.
#[derive(Clone, Default)]
pub struct PostgresAdmin {
    /// Host name, or the folder of a unix socket.
    pub host: String,
    /// Port; names the socket's file too.
    pub port: u16,
    /// The superuser, or who may make roles and databases.
    pub user: String,
    /// Its password; `None` where the socket knows who we are.
    pub password: Option<String>,
    /// Where it logs in, such as `postgres`; no seat may connect to it.
    pub database: String,
    /// How connections are encrypted.
    pub tls: PostgresTls,
    /// Extensions that every seat's database gets, besides `vector` where the server has it.
    pub extensions: Vec<String>,
}

impl fmt::Debug for MongodbAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MongodbAdmin")
    }
}

impl fmt::Debug for PostgresAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresAdmin")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// A seat's databases: one name for database and user, in MongoDB and PostgreSQL alike.
#[derive(Clone, PartialEq, Eq)]
pub struct SeatDatabase {
    /// Name of database, user and role.
    pub name: DatabaseName,
    /// The user's password: printable ASCII, 24 or more random characters.
    pub password: String,
}

impl fmt::Debug for SeatDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeatDatabase")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// One document of each collection of the template, for markers that look like the data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(BTreeMap<String, Document>);

impl Samples {
    /// Returns the samples of these collections.
    pub fn new(samples: impl IntoIterator<Item = (String, Document)>) -> Self {
        Self(samples.into_iter().collect())
    }

    /// Returns a collection's document.
    pub fn get(&self, collection: &str) -> Option<&Document> {
        self.0.get(collection)
    }
}

/// Where the state before a restore is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping<'a> {
    /// The database's name.
    pub(crate) database: &'a str,
    /// The order that it is kept for: done again after a crash, it keeps nothing a second time.
    pub(crate) order: Option<i64>,
}

impl Keeping<'_> {
    /// What is noted with the kept state; empty for none.
    pub(crate) fn order_text(self) -> String {
        self.order
            .map(|order| order.to_string())
            .unwrap_or_default()
    }
}

/// Why a database could not be made, restored or dropped.
#[derive(Debug, Error)]
pub enum ProvisionError {
    /// The MongoDB server.
    #[error("cannot {what} in MongoDB")]
    Mongodb {
        /// What was tried.
        what: String,
        /// What the driver says.
        #[source]
        source: Box<mongodb::error::Error>,
    },
    /// The PostgreSQL server.
    #[error("cannot {what} in PostgreSQL")]
    Postgres {
        /// What was tried.
        what: String,
        /// What the driver says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The administrator of a PostgreSQL server lacks rights.
    #[error(
        "the PostgreSQL user {0} may not make roles and databases: give it a superuser, or a role with CREATEROLE and CREATEDB"
    )]
    Administrator(String),
    /// A PostgreSQL server has no such extension.
    #[error(
        "this PostgreSQL has no extension {0}: install it on the server, or remove it from arena.database.extensions"
    )]
    Extension(String),
    /// A statement of the author's SQL.
    #[error("cannot run {file}, line {line}: {reason}")]
    Sql {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// No restore has put anything aside.
    #[error("nothing is kept of {0} from before a restore")]
    NothingKept(DatabaseName),
    /// A data file of the workshop.
    #[error("cannot load the workshop's data")]
    Data(#[source] DataError),
    /// A copy does not hold what the template holds.
    #[error("the copy {database} is not as its template: {difference}")]
    Unlike {
        /// The seat's database.
        database: String,
        /// What differs.
        difference: String,
    },
    /// The server still does what a process asked for that was killed.
    #[error(
        "the server is still busy with {0} commands of a former process of this event; try again in a minute"
    )]
    Leftover(usize),
    /// The event has no such server.
    #[error("this event has no {0}")]
    Missing(&'static str),
    /// An operation took longer than it may.
    #[error("cannot {what}: no answer within {seconds} s")]
    Timeout {
        /// What was tried.
        what: String,
        /// The limit.
        seconds: u64,
    },
}
