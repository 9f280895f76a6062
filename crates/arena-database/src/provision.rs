//! The front: one operation on both servers at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arena_workshop::DatabaseName;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::task::JoinSet;

use arena_data::{DataError, DataFile};

use crate::data;
use crate::mongo::Mongo;
use crate::postgres::Postgres;
use crate::shared::SharedWriter;
use crate::{
    Keeping, MongodbAdmin, PostgresAdmin, PostgresLimits, PostgresUsage, ProvisionError, Samples,
    SeatDatabase, guard,
};

/// Loading the workshop's data.
const LOAD_TIME_MAX: Duration = Duration::from_secs(600);
/// Making, restoring or dropping one seat's databases.
const SEAT_TIME_MAX: Duration = Duration::from_secs(120);
/// A server that needs longer for a trifle is as good as gone.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest name of a database in MongoDB and PostgreSQL, in bytes.
const NAME_LENGTH_MAX: usize = 63;

/// Makes, restores and drops seats' databases. Clones share the same connections.
#[derive(Clone)]
pub struct Provisioner {
    inner: Arc<Inner>,
}

struct Inner {
    mongodb: Option<Mongo>,
    postgres: Option<Postgres>,
    turns: Mutex<HashMap<DatabaseName, Arc<tokio::sync::Mutex<()>>>>,
}

/// What happens to the state before a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It is kept as a database beside (one undo); the seat itself cannot reach it.
    Keep,
    /// The same, for the order of this number: when a crash makes it be carried out again, what
    /// was kept the first time stays kept.
    KeepFor(i64),
    /// It is gone.
    Discard,
}

/// How far [`Provisioner::create_seats`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The seat that was just made.
    pub seat: DatabaseName,
    /// Seats done, this one included.
    pub done: usize,
    /// Seats altogether.
    pub all: usize,
}

/// How far [`Provisioner::load_template_step_by_step`] is in MongoDB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loading {
    /// The collection that is being loaded.
    pub collection: String,
    /// Documents loaded so far, of all collections.
    pub documents: usize,
}

impl Provisioner {
    /// Connects to the servers of an event. `template` names the database (and in PostgreSQL the
    /// role) that seats start from; no seat may have that name.
    ///
    /// # Errors
    /// When a server cannot be reached, or refuses the administrator.
    pub async fn connect(
        template: &DatabaseName,
        mongodb: Option<&MongodbAdmin>,
        postgres: Option<&PostgresAdmin>,
    ) -> Result<Self, ProvisionError> {
        let mongodb = match mongodb {
            Some(admin) => Some(Mongo::connect(admin, template).await?),
            None => None,
        };
        let postgres = match postgres {
            Some(admin) => Some(Postgres::connect(admin, template).await?),
            None => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                mongodb,
                postgres,
                turns: Mutex::default(),
            }),
        })
    }

    /// Waits until nothing else is done to a seat's databases: a restore must not copy what a way back drops.
    async fn turn(&self, seat: &DatabaseName) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self
                .inner
                .turns
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(seat.clone()).or_default())
        };
        turn.lock_owned().await
    }

    /// Loads the workshop's data files into the template. Does nothing when they are loaded already;
    /// seats that exist keep what they have. Leave `*.indexes.json` out where seats make their own
    /// indexes.
    ///
    /// # Errors
    /// When a file cannot be read, or a server refuses it. The next call begins anew.
    pub async fn load_template(&self, files: &[DataFile]) -> Result<(), ProvisionError> {
        self.load_template_step_by_step(files, |_| {}).await
    }

    /// As [`load_template`](Self::load_template), and says after each step how far it is.
    ///
    /// # Errors
    /// As there.
    pub async fn load_template_step_by_step(
        &self,
        files: &[DataFile],
        mut progress: impl FnMut(Loading) + Send,
    ) -> Result<(), ProvisionError> {
        let mongodb = async {
            let Some(mongodb) = &self.inner.mongodb else {
                return Ok(());
            };
            let hash = hash(files, DataFile::is_for_mongodb).await?;
            mongodb.load(files, &hash, &mut progress).await
        };
        let postgres = async {
            let Some(postgres) = &self.inner.postgres else {
                return Ok(());
            };
            let hash = hash(files, DataFile::is_for_postgres).await?;
            let all = files.to_vec();
            let sql = blocking(move || data::sql(&all)).await?;
            postgres.load(&sql, &hash).await
        };
        within(
            "load the workshop's data",
            LOAD_TIME_MAX,
            both(mongodb, postgres),
        )
        .await
    }

    /// Returns one document of each collection of the template.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn samples(&self) -> Result<Samples, ProvisionError> {
        match &self.inner.mongodb {
            Some(mongodb) => within("read the template", SEAT_TIME_MAX, mongodb.samples()).await,
            None => Ok(Samples::default()),
        }
    }

    /// Makes a seat's databases and verifies them by logging in as the seat. What is complete
    /// already stays as it is, except that password and limits are set again.
    ///
    /// # Errors
    /// When a server refuses, or the copy is not as its template.
    ///
    /// # Cancellation
    /// A half-made database is made anew by the next call.
    pub async fn create_seat(&self, seat: &SeatDatabase) -> Result<(), ProvisionError> {
        let _turn = self.turn(&seat.name).await;
        let mongodb = async {
            match &self.inner.mongodb {
                Some(mongodb) => mongodb.create(seat, VERSION).await,
                None => Ok(()),
            }
        };
        let postgres = async {
            match &self.inner.postgres {
                Some(postgres) => postgres.create(seat, VERSION).await,
                None => Ok(()),
            }
        };
        within(
            "make a seat's databases",
            SEAT_TIME_MAX,
            both(mongodb, postgres),
        )
        .await
    }

    /// Makes many seats, so many at once, and says after each how far it is. Goes on after a
    /// failure; returns the seats that failed.
    ///
    /// # Cancellation
    /// Seats that are being made are made anew by the next call.
    pub async fn create_seats(
        &self,
        seats: Vec<SeatDatabase>,
        at_once: NonZeroUsize,
        mut progress: impl FnMut(Progress),
    ) -> Vec<(DatabaseName, ProvisionError)> {
        let all = seats.len();
        let places = Arc::new(Semaphore::new(at_once.get()));
        let mut tasks = JoinSet::new();
        for seat in seats {
            let (provisioner, places) = (self.clone(), Arc::clone(&places));
            tasks.spawn(async move {
                let _place = places.acquire_owned().await;
                let made = provisioner.create_seat(&seat).await;
                (seat.name, made)
            });
        }
        let mut failures = Vec::new();
        let mut done = 0;
        while let Some(task) = tasks.join_next().await {
            let (seat, made) = match task {
                Ok(made) => made,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            done += 1;
            progress(Progress {
                seat: seat.clone(),
                done,
                all,
            });
            if let Err(error) = made {
                failures.push((seat, error));
            }
        }
        failures
    }

    /// Puts a seat's databases back to the template's state. Connections of the seat are cut.
    ///
    /// # Errors
    /// When a server refuses; calling again, or [`create_seat`](Self::create_seat), goes on.
    pub async fn restore_seat(
        &self,
        seat: &SeatDatabase,
        before: Before,
    ) -> Result<(), ProvisionError> {
        let _turn = self.turn(&seat.name).await;
        let name = before_name(&seat.name);
        let keeping = match before {
            Before::Keep => Some(None),
            Before::KeepFor(order) => Some(Some(order)),
            Before::Discard => None,
        };
        let keeping = keeping.map(|order| Keeping {
            database: &name,
            order,
        });
        let mongodb = async {
            match &self.inner.mongodb {
                Some(mongodb) => mongodb.restore(seat, keeping, VERSION).await,
                None => Ok(()),
            }
        };
        let postgres = async {
            match &self.inner.postgres {
                Some(postgres) => postgres.restore(seat, keeping, VERSION).await,
                None => Ok(()),
            }
        };
        within(
            "restore a seat's databases",
            SEAT_TIME_MAX,
            both(mongodb, postgres),
        )
        .await
    }

    /// Exchanges a seat's databases with what the last restore kept; a second call exchanges them
    /// back, so nothing is lost by either. Connections of the seat are cut.
    ///
    /// # Errors
    /// When nothing is kept, or a server refuses; calling again goes on.
    pub async fn bring_back_seat(&self, seat: &SeatDatabase) -> Result<(), ProvisionError> {
        let _turn = self.turn(&seat.name).await;
        let before = before_name(&seat.name);
        let mongodb = async {
            match &self.inner.mongodb {
                Some(mongodb) => mongodb.bring_back(seat, &before, VERSION).await,
                None => Ok(()),
            }
        };
        let postgres = async {
            match &self.inner.postgres {
                Some(postgres) => postgres.bring_back(seat, &before, VERSION).await,
                None => Ok(()),
            }
        };
        within(
            "bring back a seat's databases",
            SEAT_TIME_MAX,
            both(mongodb, postgres),
        )
        .await
    }

    /// Keeps a seat's databases and locks its user out, until [`create_seat`](Self::create_seat)
    /// lets it in again and finds everything as it was.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn lock_out(&self, name: &DatabaseName) -> Result<(), ProvisionError> {
        let _turn = self.turn(name).await;
        let mongodb = async {
            match &self.inner.mongodb {
                Some(mongodb) => mongodb.lock_out(name).await,
                None => Ok(()),
            }
        };
        let postgres = async {
            match &self.inner.postgres {
                Some(postgres) => postgres.lock_out(name).await,
                None => Ok(()),
            }
        };
        within("lock a seat out", SEAT_TIME_MAX, both(mongodb, postgres)).await
    }

    /// Drops a seat's databases, its user and its role; those that are not there are no error.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn drop_seat(&self, name: &DatabaseName) -> Result<(), ProvisionError> {
        let _turn = self.turn(name).await;
        let before = before_name(name);
        let mongodb = async {
            match &self.inner.mongodb {
                Some(mongodb) => mongodb.drop(name, &before).await,
                None => Ok(()),
            }
        };
        let postgres = async {
            match &self.inner.postgres {
                Some(postgres) => postgres.drop(name, &before).await,
                None => Ok(()),
            }
        };
        within(
            "drop a seat's databases",
            SEAT_TIME_MAX,
            both(mongodb, postgres),
        )
        .await
    }

    /// Removes all that the event made: databases, users and roles of every seat, what was kept of them, the
    /// template, and what is shared when no other event is on the server. A seat that another event on the same
    /// MongoDB has, too, stays. Tells each seat and how far it is. Repeatable.
    ///
    /// # Errors
    /// When a server refuses; what was removed until then is gone.
    pub async fn remove_event(&self, tell: impl Fn(Progress)) -> Result<(), ProvisionError> {
        let (mongodb, postgres) = (&self.inner.mongodb, &self.inner.postgres);
        let in_mongodb = match mongodb {
            Some(mongodb) => within("list the seats", SEAT_TIME_MAX, mongodb.own()).await?,
            None => Vec::new(),
        };
        let in_postgres = match postgres {
            Some(postgres) => within("list the seats", SEAT_TIME_MAX, postgres.list()).await?,
            None => Vec::new(),
        };
        let seats: BTreeSet<&DatabaseName> = in_mongodb.iter().chain(&in_postgres).collect();
        for (index, &name) in seats.iter().enumerate() {
            let before = before_name(name);
            // What bears that name on the other server may be somebody else's.
            let dropped = async {
                if let Some(mongodb) = mongodb.as_ref().filter(|_| in_mongodb.contains(name)) {
                    mongodb.drop(name, &before).await?;
                }
                if let Some(postgres) = postgres.as_ref().filter(|_| in_postgres.contains(name)) {
                    postgres.drop(name, &before).await?;
                }
                Ok(())
            };
            within("drop a seat's databases", SEAT_TIME_MAX, dropped).await?;
            tell(Progress {
                seat: name.clone(),
                done: index + 1,
                all: seats.len(),
            });
        }
        if let Some(mongodb) = mongodb {
            mongodb.remove_template().await?;
        }
        match postgres {
            Some(postgres) => postgres.remove_template().await,
            None => Ok(()),
        }
    }

    /// Ends sessions of seats in PostgreSQL that take so much that others get nothing, until the
    /// server cannot be reached.
    ///
    /// # Errors
    /// When the connection to the server breaks.
    ///
    /// # Cancellation
    /// Nothing is left half done.
    pub async fn guard(&self) -> Result<(), ProvisionError> {
        match &self.inner.postgres {
            Some(postgres) => guard::watch(postgres).await,
            None => std::future::pending().await,
        }
    }

    /// Returns the writer of `arena_shared`; `None` without MongoDB. There must be one at a time.
    pub fn shared_writer(&self) -> Option<SharedWriter> {
        self.inner.mongodb.as_ref().map(Mongo::shared_writer)
    }

    /// Asks every server for something that it must look up, as its administrator.
    ///
    /// # Errors
    /// When one does not answer within some seconds.
    pub async fn health(&self) -> Result<(), ProvisionError> {
        let mongodb = async {
            match &self.inner.mongodb {
                Some(mongodb) => mongodb.health().await,
                None => Ok(()),
            }
        };
        let postgres = async {
            match &self.inner.postgres {
                Some(postgres) => postgres.health().await,
                None => Ok(()),
            }
        };
        within("reach a database", HEALTH_TIME_MAX, both(mongodb, postgres)).await
    }

    /// Returns what each seat uses of PostgreSQL, as [`guard`](Self::guard) saw it last.
    pub fn postgres_usage(&self) -> BTreeMap<DatabaseName, PostgresUsage> {
        match &self.inner.postgres {
            Some(postgres) => postgres.guarded.usage(),
            None => BTreeMap::new(),
        }
    }

    /// Changes what seats may use of PostgreSQL; the guard acts on it at once.
    pub fn set_postgres_limits(&self, change: impl FnOnce(&mut PostgresLimits)) {
        if let Some(postgres) = &self.inner.postgres {
            postgres.guarded.limits.send_modify(change);
        }
    }

    /// Returns the seats whose databases are complete on every server.
    ///
    /// # Errors
    /// When a server does not answer.
    pub async fn list(&self) -> Result<BTreeSet<DatabaseName>, ProvisionError> {
        let mongodb = match &self.inner.mongodb {
            Some(mongodb) => Some(within("list the seats", SEAT_TIME_MAX, mongodb.list()).await?),
            None => None,
        };
        let postgres = match &self.inner.postgres {
            Some(postgres) => Some(within("list the seats", SEAT_TIME_MAX, postgres.list()).await?),
            None => None,
        };
        let mut lists = mongodb.into_iter().chain(postgres).map(BTreeSet::from_iter);
        let first: BTreeSet<DatabaseName> = lists.next().unwrap_or_default();
        Ok(lists.fold(first, |all, list| {
            all.intersection(&list).cloned().collect()
        }))
    }
}

/// How seats are made; noted with each, so that a later version can tell old ones.
const VERSION: &str = "1";

/// Names the database that keeps the state before a restore.
fn before_name(name: &DatabaseName) -> String {
    let long = format!("{name}_before");
    if long.len() <= NAME_LENGTH_MAX {
        return long;
    }
    let digest = Sha256::digest(name.as_str());
    let tag: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}_{tag}_before", &name.as_str()[..40])
}

/// Returns the hash of the files that are for one server.
async fn hash(
    files: &[DataFile],
    is_for: impl Fn(&DataFile) -> bool,
) -> Result<String, ProvisionError> {
    let chosen: Vec<DataFile> = files.iter().filter(|file| is_for(file)).cloned().collect();
    blocking(move || arena_data::hash(&chosen)).await
}

/// Reads files without holding up everybody else.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, DataError> + Send + 'static,
) -> Result<T, ProvisionError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(ProvisionError::Data),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Waits for both, so that a failure of one leaves the other complete.
async fn both(
    mongodb: impl Future<Output = Result<(), ProvisionError>>,
    postgres: impl Future<Output = Result<(), ProvisionError>>,
) -> Result<(), ProvisionError> {
    let (mongodb, postgres) = tokio::join!(mongodb, postgres);
    mongodb.and(postgres)
}

async fn within<T>(
    what: &str,
    limit: Duration,
    action: impl Future<Output = Result<T, ProvisionError>>,
) -> Result<T, ProvisionError> {
    match tokio::time::timeout(limit, action).await {
        Ok(done) => done,
        Err(_) => Err(ProvisionError::Timeout {
            what: what.to_owned(),
            seconds: limit.as_secs(),
        }),
    }
}
