//! The store itself: opening, the writer, and reading from memory or the file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

use crate::model::{Model, Shared};
use crate::schema;
use crate::writer::{Work, WriteError, Writer, now};

/// The event's database. Cheap to clone; the last clone that is dropped closes the file after
/// everything queued was written.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped first: its thread finishes what is queued.
    writer: Writer,
    shared: Arc<Shared>,
    reader: Mutex<Connection>,
}

/// A database that cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// SQLite cannot open, read or migrate the file.
    #[error("cannot open the event's database {path}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A newer Arena wrote it.
    #[error(
        "cannot open the event's database {path}: it was written by a newer Arena (version {version} of its tables)"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of its tables.
        version: i64,
    },
    /// The machine gave no random numbers or no thread.
    #[error("cannot start the event's database")]
    Machine(#[source] std::io::Error),
}

impl Store {
    /// Opens the database, making it when there is none, and reads what is there. Orders that
    /// were running when the last process ended are pending again.
    ///
    /// # Errors
    /// When the file cannot be opened, read or migrated.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let database = |source| OpenError::Database {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open(path).map_err(database)?;
        schema::prepare_connection(&connection).map_err(database)?;
        if let Err(version) =
            schema::migrate(&mut connection, now().as_microsecond()).map_err(database)?
        {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                version,
            });
        }
        crate::settings::make_secrets(&connection)?.map_err(database)?;
        connection
            .execute(
                "update orders set state = 'pending' where id in (
                   select max(id) from orders where state = 'running'
                   and key not in (select key from orders where state = 'pending') group by key)",
                [],
            )
            .map_err(database)?;
        connection
            .execute(
                "update orders set state = 'done', message = 'superseded' where state = 'running'",
                [],
            )
            .map_err(database)?;
        // Visits live in memory: who looked into a seat has to begin again.
        connection
            .execute("delete from sessions where principal like 'visitor:%'", [])
            .map_err(database)?;
        let model = Model::load(&connection).map_err(database)?;
        let shared = Arc::new(Shared::new(model));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(path, flags).map_err(database)?;
        let writer = Writer::start(connection, Arc::clone(&shared)).map_err(OpenError::Machine)?;
        Ok(Self {
            inner: Arc::new(Inner {
                writer,
                shared,
                reader: Mutex::new(reader),
            }),
        })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Reads the model in memory.
    pub(crate) fn model<T>(&self, read: impl FnOnce(&Model) -> T) -> T {
        read(&self.inner.shared.read())
    }

    /// Reads the file. A failure is logged and reads as nothing: the file was readable when it was
    /// opened, and whoever reads here shows lists.
    pub(crate) fn read<T: Default>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> T {
        let connection = self
            .inner
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        read(&connection).unwrap_or_else(|error| {
            tracing::error!(error = %error, "cannot read the event's database");
            T::default()
        })
    }

    /// Runs `work` in a transaction; see [`Writer::write`].
    pub(crate) async fn write<T, E>(
        &self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<WriteError> + Send + 'static,
    {
        self.inner.writer.write(work).await
    }
}
