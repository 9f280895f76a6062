//! Seats' databases in PostgreSQL: one role and one database of the same name,
//! copied from a template as files.
//!
//! Seats own their tables but not their database. The author's SQL runs as an
//! ordinary role, never as the superuser, who could start programs.

use std::time::Duration;

use arena_workshop::DatabaseName;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::scram::scram_verifier;
use crate::{PostgresAdmin, ProvisionError, SeatDatabase};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Before a server that is starting is asked again.
const STARTING_PAUSE: Duration = Duration::from_millis(50);
/// Two sessions that alter the same catalog row: PostgreSQL refuses one of them.
const CONFLICT_RETRIES: usize = 5;
/// Begins the comment of a template's database.
const TEMPLATE_MARK: &str = "arena template ";
/// Begins the comment of a complete seat's database.
pub(crate) const SEAT_MARK: &str = "arena seat ";

/// The server, as its superuser.
pub(crate) struct Postgres {
    pub(crate) admin: PostgresAdmin,
    template: DatabaseName,
}

/// A connection and the task that moves its bytes.
pub(crate) struct Link {
    pub(crate) client: Client,
    task: JoinHandle<()>,
}

impl Link {
    /// Closes the connection and waits until the server knows: a database in use cannot be copied.
    async fn close(self) {
        drop(self.client);
        let mut task = self.task;
        if tokio::time::timeout(CONNECT_TIME_MAX, &mut task)
            .await
            .is_err()
        {
            task.abort();
        }
    }

    /// Runs statements; those that lost against another session's are tried again.
    async fn run(
        &self,
        statements: &str,
        what: impl FnOnce() -> String,
    ) -> Result<(), ProvisionError> {
        let mut tries = 0;
        loop {
            match self.client.batch_execute(statements).await {
                Err(error) if tries < CONFLICT_RETRIES && is_conflict(&error) => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(20 << tries)).await;
                }
                done => {
                    return done.map_err(|source| ProvisionError::Postgres {
                        what: what(),
                        source,
                    });
                }
            }
        }
    }
}

fn is_conflict(error: &Error) -> bool {
    let Some(error) = error.as_db_error() else {
        return false;
    };
    // "source database is being accessed by other users" while another copy of it ends.
    *error.code() == SqlState::OBJECT_IN_USE
        || (*error.code() == SqlState::INTERNAL_ERROR && error.message().contains("concurrently"))
}

pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(Error) -> ProvisionError {
    let what = what.into();
    move |source| ProvisionError::Postgres { what, source }
}

/// Quotes a name; the type holds none that needs more.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Takes rights that everybody has by default.
const HARDEN_SERVER: &str = "REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC";

/// One connection's advisory locks could exhaust the memory that all share.
const HARDEN_TEMPLATE: &str = "
    DO $$ DECLARE f regprocedure; BEGIN
      FOR f IN SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace
               AND p.proname LIKE 'pg\\_%advisory%' LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
      END LOOP;
      IF EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'vector') THEN
        CREATE EXTENSION IF NOT EXISTS vector;
      END IF;
    END $$;
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;";

impl Postgres {
    pub(crate) async fn connect(
        admin: &PostgresAdmin,
        template: &DatabaseName,
    ) -> Result<Self, ProvisionError> {
        let server = Self {
            admin: admin.clone(),
            template: template.clone(),
        };
        let link = server.admin_link(&admin.database).await?;
        link.run(HARDEN_SERVER, || {
            "take the rights that everybody has".to_owned()
        })
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

    /// Loads the author's SQL, unless the template holds exactly these files already.
    pub(crate) async fn load(
        &self,
        files: &[(String, String)],
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        let mark = format!("{TEMPLATE_MARK}{hash}");
        if comment(&link, self.template.as_str()).await?.as_deref() == Some(&mark) {
            link.close().await;
            return Ok(());
        }
        let name = quoted(self.template.as_str());
        let owner = SeatDatabase {
            name: self.template.clone(),
            password: random_password(),
        };
        link.run(
            &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            || "drop the old template".to_owned(),
        )
        .await?;
        self.role(&link, &owner).await?;
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        link.run(&create, || "make the template".to_owned()).await?;
        let rights = format!(
            "REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {name}"
        );
        link.run(&rights, || "make the template".to_owned()).await?;
        let inside = self.admin_link(self.template.as_str()).await?;
        inside
            .run(HARDEN_TEMPLATE, || "prepare the template".to_owned())
            .await?;
        let rights = format!("GRANT USAGE, CREATE ON SCHEMA public TO {name}");
        inside
            .run(&rights, || "prepare the template".to_owned())
            .await?;
        inside.close().await;
        let author = self
            .link(self.seat_config(&owner), "log in as the template's owner")
            .await?;
        // The author's indexes may take longer than a participant's statements.
        author
            .run("SET statement_timeout = 0", || "prepare loading".to_owned())
            .await?;
        for (file, text) in files {
            author.run(text, || format!("run {file}")).await?;
        }
        author
            .run("ANALYZE", || "count the template's rows".to_owned())
            .await?;
        author.close().await;
        let seal = format!(
            "ALTER ROLE {name} NOLOGIN PASSWORD NULL; COMMENT ON DATABASE {name} IS '{mark}'; ALTER DATABASE {name} ALLOW_CONNECTIONS false"
        );
        // Three statements in one implicit transaction.
        link.run(&seal, || "close the template".to_owned()).await?;
        link.close().await;
        Ok(())
    }

    pub(crate) async fn create(
        &self,
        seat: &SeatDatabase,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        self.role(&link, seat).await?;
        let is_complete = comment(&link, seat.name.as_str())
            .await?
            .is_some_and(|comment| comment.starts_with(SEAT_MARK));
        if !is_complete {
            self.copy(&link, seat, hash).await?;
        }
        link.close().await;
        Ok(())
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
        let create = format!(
            "CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log CONNECTION LIMIT 10"
        );
        link.run(&create, what).await?;
        let rights = format!(
            "REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {name}"
        );
        link.run(&rights, what).await?;
        // Nobody but us has been in there yet.
        let inside = self.admin_link(seat.name.as_str()).await?;
        let handover = format!(
            "REASSIGN OWNED BY {template} TO {name}; GRANT USAGE, CREATE ON SCHEMA public TO {name}"
        );
        inside.run(&handover, what).await?;
        let tables = count_tables(&inside, &seat.name).await?;
        inside.close().await;
        let participant = self
            .link(self.seat_config(seat), &format!("log in as {name}"))
            .await?;
        let seen = count_tables(&participant, &seat.name).await?;
        participant.close().await;
        if seen != tables {
            let difference = format!("it sees {seen} of {tables} tables");
            return Err(ProvisionError::Unlike {
                database: seat.name.to_string(),
                difference,
            });
        }
        link.run(
            &format!("COMMENT ON DATABASE {name} IS '{SEAT_MARK}{hash}'"),
            what,
        )
        .await
    }

    pub(crate) async fn restore(
        &self,
        seat: &SeatDatabase,
        before: Option<&str>,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        let name = quoted(seat.name.as_str());
        let what = || format!("put the old state of {name} aside");
        let is_complete = comment(&link, seat.name.as_str())
            .await?
            .is_some_and(|comment| comment.starts_with(SEAT_MARK));
        if let (Some(before), true) = (before, is_complete) {
            let before = quoted(before);
            link.run(
                &format!("DROP DATABASE IF EXISTS {before} WITH (FORCE)"),
                what,
            )
            .await?;
            let close = format!(
                "ALTER DATABASE {name} ALLOW_CONNECTIONS false; COMMENT ON DATABASE {name} IS NULL; REVOKE ALL ON DATABASE {name} FROM {name}"
            );
            link.run(&close, what).await?;
            let disconnect = "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity WHERE datname = $1";
            link.client
                .query(disconnect, &[&seat.name.as_str()])
                .await
                .map_err(failed(what()))?;
            link.run(&format!("ALTER DATABASE {name} RENAME TO {before}"), what)
                .await?;
        }
        self.role(&link, seat).await?;
        self.copy(&link, seat, hash).await?;
        link.close().await;
        Ok(())
    }

    pub(crate) async fn drop(
        &self,
        name: &DatabaseName,
        before: &str,
    ) -> Result<(), ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
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

    /// Returns the seats that are complete.
    pub(crate) async fn list(&self) -> Result<Vec<DatabaseName>, ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        let query = "SELECT datname::text FROM pg_catalog.pg_database \
                     WHERE pg_catalog.starts_with(pg_catalog.shobj_description(oid, 'pg_database'), $1)";
        let rows = link
            .client
            .query(query, &[&SEAT_MARK])
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
        let name = quoted(seat.name.as_str());
        let what = || format!("make the role {name}");
        let query = "SELECT FROM pg_catalog.pg_roles WHERE rolname = $1";
        let found = link
            .client
            .query_opt(query, &[&seat.name.as_str()])
            .await
            .map_err(failed(what()))?;
        let verb = if found.is_some() { "ALTER" } else { "CREATE" };
        let verifier = scram_verifier(&seat.password, random());
        let statements = format!(
            "{verb} ROLE {name} LOGIN PASSWORD '{verifier}' NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 8;
             ALTER ROLE {name} SET statement_timeout = '30s';
             ALTER ROLE {name} SET idle_in_transaction_session_timeout = '60s';
             ALTER ROLE {name} SET temp_file_limit = '200MB';"
        );
        link.run(&statements, what).await
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(&self.admin.host)
            .port(self.admin.port)
            .connect_timeout(CONNECT_TIME_MAX)
            .application_name("arena-provisioner");
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

    pub(crate) async fn admin_link(&self, database: &str) -> Result<Link, ProvisionError> {
        let mut config = self.config();
        config.user(&self.admin.user).dbname(database);
        if let Some(password) = &self.admin.password {
            config.password(password);
        }
        self.link(config, &format!("connect to {database}")).await
    }

    async fn link(&self, config: Config, what: &str) -> Result<Link, ProvisionError> {
        let timeout = |_| ProvisionError::Timeout {
            what: format!("{what} in PostgreSQL"),
            seconds: CONNECT_TIME_MAX.as_secs(),
        };
        let connecting = async {
            loop {
                match config.connect(NoTls).await {
                    // It listens before it has replayed its log.
                    Err(error) if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) => {
                        tokio::time::sleep(STARTING_PAUSE).await;
                    }
                    connected => return connected,
                }
            }
        };
        let connected = tokio::time::timeout(CONNECT_TIME_MAX, connecting).await;
        let (client, connection) = connected.map_err(timeout)?.map_err(failed(what))?;
        // Awaited in `Link::close`; ends by itself when the client is dropped.
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a PostgreSQL connection ended");
            }
        });
        Ok(Link { client, task })
    }
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

/// Counts the tables and views of `public` that a role owns, from the catalog only.
async fn count_tables(link: &Link, owner: &DatabaseName) -> Result<i64, ProvisionError> {
    let query = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner \
                 WHERE r.rolname = $1 AND c.relkind IN ('r', 'p', 'v', 'm')";
    let row = link
        .client
        .query_one(query, &[&owner.as_str()])
        .await
        .map_err(failed(format!("count the tables of {owner}")))?;
    Ok(row.get(0))
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
