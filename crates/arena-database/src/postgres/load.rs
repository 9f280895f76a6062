//! The template in PostgreSQL: the author's SQL and dumps, run as a role of the template's own that
//! may do nothing else and cannot log in afterwards. The extensions come from the platform: a list,
//! because not every extension leaves a seat where it is.

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::error::{ErrorPosition, SqlState};

use super::counts::Counts;
use super::dump::{self, Part};
use super::harden::{self, quoted};
use super::{Link, Postgres, comment, failed, random_password};
use crate::{ProvisionError, SeatDatabase};
use std::sync::PoisonError;

/// Begins the comment of a template's database.
const TEMPLATE_MARK: &str = "arena template ";
/// There in every template where the server has it; others are asked for.
const USUAL_EXTENSION: &str = "vector";
/// Bytes of rows that are sent at once.
const COPY_BYTES: usize = 256 * 1024;

impl Postgres {
    /// Loads the author's SQL, unless the template holds exactly these files already.
    pub(crate) async fn load(
        &self,
        files: &[(String, String)],
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let link = self.admin_link(&self.admin.database).await?;
        let extensions = self.admin.extensions.join(",");
        let mark = format!("{TEMPLATE_MARK}{hash} [{extensions}] ");
        let found = comment(&link, self.template.as_str()).await?;
        let known = found
            .as_deref()
            .and_then(|found| found.strip_prefix(&mark))
            .and_then(|counts| serde_json::from_str::<Counts>(counts).ok());
        let counts = match known {
            Some(counts) => counts,
            None => self.make_template(&link, files, &mark).await?,
        };
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        link.close().await;
        Ok(())
    }

    async fn make_template(
        &self,
        link: &Link,
        files: &[(String, String)],
        mark: &str,
    ) -> Result<Counts, ProvisionError> {
        let name = quoted(self.template.as_str());
        let owner = SeatDatabase {
            name: self.template.clone(),
            password: random_password(),
        };
        let what = || "make the template".to_owned();
        link.run(
            &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            || "drop the old template".to_owned(),
        )
        .await?;
        self.role(link, &owner).await?;
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        link.run(&create, what).await?;
        link.run(
            &harden::open_to(self.template.as_str(), self.template.as_str()),
            what,
        )
        .await?;
        let schemas = format!("GRANT CREATE ON DATABASE {name} TO {name}");
        link.run(&schemas, what).await?;
        let inside = self.admin_link(self.template.as_str()).await?;
        self.extensions(&inside).await?;
        let rights = format!(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT USAGE, CREATE ON SCHEMA public TO {name}"
        );
        inside.run(&rights, what).await?;
        inside.close().await;
        let counts = self.run_as_author(&owner, files).await?;
        let inside = self.admin_link(self.template.as_str()).await?;
        // Last: a dump may hold large objects, which seats cannot make.
        inside
            .run_if_allowed(harden::FUNCTIONS, "take functions from seats")
            .await?;
        inside.close().await;
        let noted = serde_json::to_string(&counts)
            .expect("names and numbers are JSON")
            .replace('\'', "''");
        let seal = format!(
            "ALTER ROLE {name} NOLOGIN PASSWORD NULL; COMMENT ON DATABASE {name} IS '{mark}{noted}'; \
             ALTER DATABASE {name} ALLOW_CONNECTIONS false"
        );
        // Three statements in one implicit transaction.
        link.run(&seal, || "close the template".to_owned()).await?;
        Ok(counts)
    }

    /// Makes the extensions in the template, owned by the administrator.
    async fn extensions(&self, inside: &Link) -> Result<(), ProvisionError> {
        let query = "SELECT name::text FROM pg_catalog.pg_available_extensions ORDER BY name";
        let rows = inside
            .client
            .query(query, &[])
            .await
            .map_err(failed("list the extensions"))?;
        let available: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let usual = available
            .iter()
            .find(|name| *name == USUAL_EXTENSION)
            .filter(|name| !self.admin.extensions.contains(name));
        for name in self.admin.extensions.iter().chain(usual) {
            if !available.contains(name) {
                return Err(ProvisionError::Extension(name.clone()));
            }
            let create = format!(
                "CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA public CASCADE",
                quoted(name)
            );
            if Some(name) == usual {
                inside
                    .run_if_allowed(&create, "make the extension vector")
                    .await?;
            } else {
                inside
                    .run(&create, || format!("make the extension {name}"))
                    .await?;
            }
        }
        Ok(())
    }

    /// Runs the files as the template's owner, and counts what is there then.
    async fn run_as_author(
        &self,
        owner: &SeatDatabase,
        files: &[(String, String)],
    ) -> Result<Counts, ProvisionError> {
        let author = self
            .link(self.seat_config(owner), "log in as the template's owner")
            .await?;
        for (file, text) in files {
            // The author's indexes may take longer than a participant's statements; and a template that
            // is not complete is made anew, so no statement needs to wait for the disk.
            begin_afresh(&author).await?;
            author
                .run("SET synchronous_commit = off", || {
                    "prepare loading".to_owned()
                })
                .await?;
            self.run_file(&author, file, text).await?;
        }
        begin_afresh(&author).await?;
        author
            .run("ANALYZE", || "count the template's rows".to_owned())
            .await?;
        let counts = Counts::of(&author).await?;
        author.close().await;
        Ok(counts)
    }

    async fn run_file(&self, author: &Link, file: &str, text: &str) -> Result<(), ProvisionError> {
        let refused = |line: usize, reason: String| ProvisionError::Sql {
            file: file.to_owned(),
            line,
            reason,
        };
        let parts = dump::parts(text).map_err(|error| refused(error.line, error.reason))?;
        for part in parts {
            match part {
                Part::Statement { line, text } => {
                    if let Err(error) = author.client.batch_execute(text).await
                        && !is_setting_of_another_version(text, &error)
                    {
                        return Err(failed_at(file, line, text, error));
                    }
                }
                Part::Copy { line, text, rows } => {
                    if let Err(error) = copy_in(author, text, rows).await {
                        return Err(failed_at(file, line, text, error));
                    }
                }
                Part::Extension { line, name } => {
                    let is_there = ["plpgsql", USUAL_EXTENSION].contains(&name.as_str())
                        || self.admin.extensions.contains(&name);
                    if !is_there {
                        return Err(refused(
                            line,
                            format!(
                                "the extension {name} is not among this event's: add it to arena.database.extensions in config.yaml"
                            ),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Ends what a file left open, and forgets what it set.
async fn begin_afresh(author: &Link) -> Result<(), ProvisionError> {
    for statement in [
        "COMMIT",
        "DISCARD ALL",
        "SET statement_timeout = 0",
        "SET idle_in_transaction_session_timeout = 0",
    ] {
        author
            .run(statement, || "prepare loading".to_owned())
            .await?;
    }
    Ok(())
}

async fn copy_in(author: &Link, statement: &str, rows: &str) -> Result<(), tokio_postgres::Error> {
    let sink = author.client.copy_in::<_, Bytes>(statement).await?;
    let mut sink = std::pin::pin!(sink);
    for piece in rows.as_bytes().chunks(COPY_BYTES) {
        sink.send(Bytes::copy_from_slice(piece)).await?;
    }
    sink.finish().await.map(|_| ())
}

/// A dump made by a newer version begins with settings that an older server does not know.
fn is_setting_of_another_version(statement: &str, error: &tokio_postgres::Error) -> bool {
    let is_setting = statement
        .split_whitespace()
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case("set"));
    is_setting && error.code() == Some(&SqlState::UNDEFINED_OBJECT)
}

/// Where in the file a statement failed: the place that the server names, else its first line.
fn failed_at(
    file: &str,
    line: usize,
    statement: &str,
    error: tokio_postgres::Error,
) -> ProvisionError {
    let place = error.as_db_error().and_then(|error| error.position());
    let before = match place {
        Some(ErrorPosition::Original(position)) => {
            let letters = usize::try_from(*position).unwrap_or(1).saturating_sub(1);
            statement
                .chars()
                .take(letters)
                .filter(|letter| *letter == '\n')
                .count()
        }
        _ => 0,
    };
    ProvisionError::Postgres {
        what: format!("run {file}, line {}", line + before),
        source: error,
    }
}
