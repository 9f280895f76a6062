//! Seats' databases in PostgreSQL: one role and one database of the same name,
//! copied from a template as files.
//!
//! Seats own their tables but not their database. The author's SQL runs as an
//! ordinary role, never as the superuser, who could start programs; and the
//! administrator, who looks into databases that others filled, names every
//! function in full, because they may have made look-alikes.
//!
//! Begin reading at [`Postgres::create`]; the template is made in `load`, what
//! seats may do is in `harden`.

mod counts;
mod dump;
mod harden;
mod link;
mod load;

use std::sync::{Mutex, PoisonError};

use arena_workshop::DatabaseName;
use sha2::{Digest, Sha256};
use tokio_postgres::Config;

use self::counts::Counts;
use self::harden::{Role, quoted};
pub(crate) use self::link::{Link, failed};
use crate::guard::Guarded;
use crate::quota::{self, Room};
use crate::{Keeping, PostgresAdmin, ProvisionError, SeatDatabase};

/// Begins the comment of what was kept before a restore; the order that it was kept for follows.
const KEPT_MARK: &str = "arena kept ";
/// Begins the comment of a complete seat's database.
const SEAT_MARK: &str = "arena seat ";
/// Longer names of connections are cut, in bytes (`NAMEDATALEN` of PostgreSQL).
const APPLICATION_LENGTH_MAX: usize = 64;
/// From here on a creator can be given what it makes by a setting.
const VERSION_SELF_GRANT: i32 = 160_000;

/// The server, as its administrator.
pub(crate) struct Postgres {
    pub(crate) admin: PostgresAdmin,
    template: DatabaseName,
    by_superuser: bool,
    /// Such as 180001.
    version: i32,
    /// Rows of the template's tables, once it is known to be complete.
    counts: Mutex<Counts>,
    pub(crate) guarded: Guarded,
}

impl Postgres {
    pub(crate) async fn connect(
        admin: &PostgresAdmin,
        template: &DatabaseName,
    ) -> Result<Self, ProvisionError> {
        let mut server = Self {
            admin: admin.clone(),
            template: template.clone(),
            by_superuser: true,
            version: 0,
            counts: Mutex::default(),
            guarded: Guarded::default(),
        };
        let link = server.admin_link(&admin.database).await?;
        let query = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4, rolsuper, rolcreaterole AND rolcreatedb \
                     FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let row = link
            .client
            .query_one(query, &[])
            .await
            .map_err(failed("look at the administrator's rights"))?;
        (server.version, server.by_superuser) = (row.get(0), row.get(1));
        if !(server.by_superuser || row.get::<_, bool>(2)) {
            return Err(ProvisionError::Administrator(admin.user.clone()));
        }
        link.end_leftovers(None).await?;
        link.run_if_allowed(harden::SERVER, "take the rights that everybody has")
            .await?;
        link.close().await;
        Ok(server)
    }

    /// Logs in and asks.
    pub(crate) async fn health(&self) -> Result<(), ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        let answered = link.run("SELECT 1", || "reach the server".to_owned()).await;
        link.close().await;
        answered
    }

    pub(crate) async fn create(
        &self,
        seat: &SeatDatabase,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let _making = self.guarded.making.read().await;
        let link = self.seat_link(seat.name.as_str()).await?;
        self.role(&link, seat).await?;
        match self.mark_of(&link, seat.name.as_str()).await? {
            Some(mark) => {
                self.open_again(&link, seat, quota::room(&mark), hash)
                    .await?
            }
            None => self.copy(&link, seat, hash).await?,
        }
        link.close().await;
        Ok(())
    }

    /// Sets again what a complete database grants; one over its quota stays as it is.
    async fn open_again(
        &self,
        link: &Link,
        seat: &SeatDatabase,
        room: Room,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let name = seat.name.as_str();
        let quoted_name = quoted(name);
        // A process that was killed may have closed it, to put it aside.
        let mut statements = format!(
            "ALTER DATABASE {quoted_name} ALLOW_CONNECTIONS true; GRANT CONNECT ON DATABASE {quoted_name} TO {quoted_name};"
        );
        statements.push_str(&match room {
            Room::Free => format!(
                "{}; COMMENT ON DATABASE {quoted_name} IS '{}'",
                harden::open_to(name, name),
                mark(hash, &self.template)
            ),
            Room::Full => String::new(),
            Room::Shut => format!("ALTER ROLE {quoted_name} NOLOGIN"),
        });
        link.run(&statements, || format!("open the database {name}"))
            .await
    }

    /// Makes a seat's database from the template; a half-made one is made anew.
    async fn copy(
        &self,
        link: &Link,
        seat: &SeatDatabase,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let (name, template) = (quoted(seat.name.as_str()), quoted(self.template.as_str()));
        let what = || format!("make the database {name}");
        link.run(
            &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            what,
        )
        .await?;
        // Copied through the log: copying files would begin with a checkpoint, once a seat.
        let strategy = if self.version >= 150_000 {
            "STRATEGY wal_log"
        } else {
            ""
        };
        let create = format!("CREATE DATABASE {name} TEMPLATE {template} {strategy}");
        link.run(&create, what).await?;
        link.run(
            &harden::open_to(seat.name.as_str(), seat.name.as_str()),
            what,
        )
        .await?;
        // Nobody but us has been in there yet.
        let inside = self.admin_link(seat.name.as_str()).await?;
        let handover = harden::hand_over(self.template.as_str(), seat.name.as_str());
        inside.run(&handover, what).await?;
        inside.close().await;
        self.verify(seat).await?;
        link.run(
            &format!(
                "COMMENT ON DATABASE {name} IS '{}'",
                mark(hash, &self.template)
            ),
            what,
        )
        .await
    }

    /// Logs in as the seat and counts what it sees: every table of the template with all its rows.
    async fn verify(&self, seat: &SeatDatabase) -> Result<(), ProvisionError> {
        let expected = self
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let participant = self
            .link(
                self.seat_config(seat),
                &format!("log in as {}", quoted(seat.name.as_str())),
            )
            .await?;
        let difference = expected.difference(&participant).await?;
        participant.close().await;
        match difference {
            None => Ok(()),
            Some(difference) => Err(ProvisionError::Unlike {
                database: seat.name.to_string(),
                difference,
            }),
        }
    }

    pub(crate) async fn restore(
        &self,
        seat: &SeatDatabase,
        keeping: Option<Keeping<'_>>,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let _making = self.guarded.making.read().await;
        let link = self.seat_link(seat.name.as_str()).await?;
        let name = seat.name.as_str();
        let what = || format!("put the old state of {name} aside");
        let is_complete = self.mark_of(&link, name).await?.is_some();
        let is_kept = match keeping {
            Some(keeping) => is_kept(&link, keeping).await?,
            None => false,
        };
        if let (Some(keeping), true, false) = (keeping, is_complete, is_kept) {
            self.shut(&link, name).await?;
            let before = quoted(keeping.database);
            link.run(
                &format!("DROP DATABASE IF EXISTS {before} WITH (FORCE)"),
                what,
            )
            .await?;
            let rename = format!(
                "ALTER DATABASE {} RENAME TO {before}; COMMENT ON DATABASE {before} IS '{KEPT_MARK}{}'",
                quoted(name),
                keeping.order_text()
            );
            link.run(&rename, what).await?;
        }
        self.role(&link, seat).await?;
        self.copy(&link, seat, hash).await?;
        link.close().await;
        Ok(())
    }

    /// Exchanges a seat's database with the state that the last restore put aside; a second call
    /// exchanges them back.
    pub(crate) async fn bring_back(
        &self,
        seat: &SeatDatabase,
        before: &str,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let _making = self.guarded.making.read().await;
        let link = self.seat_link(seat.name.as_str()).await?;
        let name = seat.name.as_str();
        if !exists(&link, before).await? {
            link.close().await;
            return Err(ProvisionError::NothingKept(seat.name.clone()));
        }
        self.role(&link, seat).await?;
        self.shut(&link, name).await?;
        let (seats, kept, aside) = (
            quoted(name),
            quoted(before),
            quoted(
                &format!("arena swap of {name}")
                    .chars()
                    .take(63)
                    .collect::<String>(),
            ),
        );
        let mut exchange = String::new();
        if exists(&link, name).await? {
            exchange = format!("ALTER DATABASE {seats} RENAME TO {aside};");
        }
        exchange.push_str(&format!(
            "ALTER DATABASE {kept} RENAME TO {seats}; ALTER DATABASE {seats} ALLOW_CONNECTIONS true; {};",
            harden::open_to(name, name)
        ));
        if exchange.contains(&aside) {
            exchange.push_str(&format!(
                "ALTER DATABASE {aside} RENAME TO {kept}; COMMENT ON DATABASE {kept} IS NULL;"
            ));
        }
        exchange.push_str(&format!(
            "COMMENT ON DATABASE {seats} IS '{}'",
            mark(hash, &self.template)
        ));
        // One implicit transaction: after a crash it is all done, or nothing.
        link.run(&exchange, || format!("bring back the old state of {name}"))
            .await?;
        link.close().await;
        // Its writes may have been taken when it was put aside.
        let inside = self.admin_link(name).await?;
        inside
            .run(&harden::give_writes(self.template.as_str(), name), || {
                format!("open {name}")
            })
            .await?;
        inside.close().await;
        Ok(())
    }

    /// Closes a database to its seat and ends the sessions in it. It stays a complete seat's: a crash here must not
    /// make it be taken for a half-made one.
    async fn shut(&self, link: &Link, name: &str) -> Result<(), ProvisionError> {
        let what = || format!("close the database {name}");
        if !exists(link, name).await? {
            return Ok(());
        }
        let database = quoted(name);
        let close = format!(
            "ALTER DATABASE {database} ALLOW_CONNECTIONS false; REVOKE ALL ON DATABASE {database} FROM {database}"
        );
        link.run(&close, what).await?;
        let disconnect = "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity WHERE datname = $1";
        link.client
            .query(disconnect, &[&name])
            .await
            .map_err(failed(what()))?;

        Ok(())
    }

    /// Ends a seat's sessions and lets its role log in no more, until it is made again.
    pub(crate) async fn lock_out(&self, name: &DatabaseName) -> Result<(), ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        let what = || format!("lock {name} out");
        let query = "SELECT FROM pg_catalog.pg_roles WHERE rolname = $1";
        let found = link.client.query_opt(query, &[&name.as_str()]).await;
        if found.map_err(failed(what()))?.is_some() {
            let lock = format!("ALTER ROLE {} NOLOGIN", quoted(name.as_str()));
            link.run(&lock, what).await?;
            let disconnect = "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity WHERE usename = $1";
            let ended = link.client.query(disconnect, &[&name.as_str()]).await;
            ended.map_err(failed(what()))?;
        }
        link.close().await;
        Ok(())
    }

    pub(crate) async fn drop(
        &self,
        name: &DatabaseName,
        before: &str,
    ) -> Result<(), ProvisionError> {
        let _making = self.guarded.making.read().await;
        let link = self.seat_link(name.as_str()).await?;
        let role = quoted(name.as_str());
        for database in [name.as_str(), before] {
            let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(database));
            link.run(&statement, || format!("drop {database}")).await?;
        }
        link.run(&format!("DROP ROLE IF EXISTS {role}"), || {
            format!("drop the role {role}")
        })
        .await?;
        link.close().await;
        Ok(())
    }

    /// Drops the template, after all seats.
    pub(crate) async fn remove_template(&self) -> Result<(), ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        let name = quoted(self.template.as_str());
        for statement in [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("DROP ROLE IF EXISTS {name}"),
        ] {
            link.run(&statement, || "drop the template".to_owned())
                .await?;
        }
        link.close().await;
        Ok(())
    }

    /// Returns the seats that are complete.
    pub(crate) async fn list(&self) -> Result<Vec<DatabaseName>, ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        let query = "SELECT datname::pg_catalog.text FROM pg_catalog.pg_database \
                     WHERE pg_catalog.shobj_description(oid, 'pg_database') LIKE ANY ($1)";
        let rows = link
            .client
            .query(query, &[&self.marks()])
            .await
            .map_err(failed("list the seats"))?;
        link.close().await;
        Ok(rows
            .iter()
            .filter_map(|row| DatabaseName::new(row.get::<_, String>(0)).ok())
            .collect())
    }

    /// Makes a seat's role, or sets its password and limits anew.
    async fn role(&self, link: &Link, seat: &SeatDatabase) -> Result<(), ProvisionError> {
        let name = seat.name.as_str();
        let query = "SELECT FROM pg_catalog.pg_roles WHERE rolname = $1";
        let found = link.client.query_opt(query, &[&name]).await;
        let role = Role {
            seat,
            exists: found
                .map_err(failed(format!("look for the role {name}")))?
                .is_some(),
            by_superuser: self.by_superuser,
            salt: random(),
        };
        link.run(&role.statements(), || format!("make the role {name}"))
            .await?;
        if !self.by_superuser && self.version < VERSION_SELF_GRANT {
            let grant = format!("GRANT {} TO CURRENT_USER", quoted(name));
            link.run(&grant, || format!("make the role {name}")).await?;
        }
        link.run_if_allowed(&role.temporary_files(), "bound the seats' temporary files")
            .await
    }

    /// Returns the mark of a complete seat's database.
    async fn mark_of(&self, link: &Link, database: &str) -> Result<Option<String>, ProvisionError> {
        let comment = comment(link, database).await?;
        Ok(comment.filter(|comment| comment.starts_with(SEAT_MARK)))
    }

    /// Patterns of the marks of this event's seats.
    pub(crate) fn marks(&self) -> Vec<String> {
        let template = self.template.as_str().replace('_', "\\_");
        [Room::Free, Room::Full, Room::Shut]
            .iter()
            .map(|room| format!("{SEAT_MARK}% of {template}{}", room.word()))
            .collect()
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config.host(&self.admin.host).port(self.admin.port);
        config
    }

    fn seat_config(&self, seat: &SeatDatabase) -> Config {
        let mut config = self.config();
        config
            .user(seat.name.as_str())
            .password(&seat.password)
            .dbname(seat.name.as_str());
        config
    }

    /// Connects as the administrator. Functions and operators are PostgreSQL's own, whatever those
    /// who filled the database made.
    pub(crate) async fn admin_link(&self, database: &str) -> Result<Link, ProvisionError> {
        let mut config = self.config();
        let mut options = "-c search_path=pg_catalog -c lock_timeout=60s".to_owned();
        if !self.by_superuser && self.version >= VERSION_SELF_GRANT {
            options.push_str(" -c createrole_self_grant=set,inherit");
        }
        config
            .user(&self.admin.user)
            .dbname(database)
            .options(options);
        if let Some(password) = &self.admin.password {
            config.password(password);
        }
        self.link(config, &format!("connect to {database}")).await
    }

    /// Connects for something that is done to one seat, whose turn it is.
    async fn seat_link(&self, name: &str) -> Result<Link, ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        link.end_leftovers(Some(&quoted(name))).await?;
        Ok(link)
    }

    async fn link(&self, mut config: Config, what: &str) -> Result<Link, ProvisionError> {
        config.application_name(application(&self.template));
        Link::open(config, &self.admin.tls, what).await
    }

    pub(crate) fn take_writes(&self, seat: &str) -> String {
        harden::take_writes(self.template.as_str(), seat)
    }

    pub(crate) fn give_writes(&self, seat: &str) -> String {
        harden::give_writes(self.template.as_str(), seat)
    }
}

/// The comment of a complete seat's database: how it was made, and for which event.
pub(crate) fn mark(version: &str, template: &DatabaseName) -> String {
    format!("{SEAT_MARK}{version} of {template}")
}

/// Names this event's connections. PostgreSQL cuts such names at 63 bytes, and one event must not be taken for
/// another.
fn application(template: &DatabaseName) -> String {
    let name = format!("arena-provisioner {template}");
    if name.len() < APPLICATION_LENGTH_MAX {
        return name;
    }
    let digest = Sha256::digest(template.as_str());
    let digest: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("arena-provisioner {digest}")
}

async fn exists(link: &Link, database: &str) -> Result<bool, ProvisionError> {
    let query = "SELECT FROM pg_catalog.pg_database WHERE datname = $1";
    let found = link.client.query_opt(query, &[&database]).await;
    Ok(found
        .map_err(failed(format!("look at {database}")))?
        .is_some())
}

async fn comment(link: &Link, database: &str) -> Result<Option<String>, ProvisionError> {
    let query = "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = $1";
    let row = link
        .client
        .query_opt(query, &[&database])
        .await
        .map_err(failed(format!("look at {database}")))?;
    Ok(row.and_then(|row| row.get(0)))
}

/// Returns whether a state was kept for this order already.
async fn is_kept(link: &Link, keeping: Keeping<'_>) -> Result<bool, ProvisionError> {
    let mark = format!("{KEPT_MARK}{}", keeping.order_text());
    Ok(keeping.order.is_some() && comment(link, keeping.database).await? == Some(mark))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .expect("the system's source of random bytes does not fail after start");
    bytes
}

fn random_password() -> String {
    random::<24>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
