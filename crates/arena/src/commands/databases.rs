//! What `arena check` says about databases: which one an event here would use,
//! why, what can be taught on it and what cannot, and how to get a better one.

use std::collections::BTreeSet;

use anyhow::Context;
use arena_workshop::plan::{MongodbSource, PostgresSource};
use arena_workshop::{Capability, Plan, Workshop};
use serde::Serialize;

use crate::failure::{Failure, Paint, paint};
use crate::platform::remote::{self, Remote};

/// A database as `check` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Chosen {
    /// MongoDB or PostgreSQL.
    kind: &'static str,
    /// Which one.
    title: String,
    /// Why this one.
    why: &'static str,
    /// What can be taught on it.
    can: Vec<&'static str>,
    /// What cannot.
    cannot: Vec<&'static str>,
    /// What of it was never seen to work.
    experimental: Option<&'static str>,
    /// How to get one that can do more.
    better: Option<&'static str>,
}

/// An exercise that is greyed out.
#[derive(Debug, Serialize)]
pub(crate) struct Greyed {
    exercise: String,
    needs: Vec<&'static str>,
}

/// Connects to a configured MongoDB and looks; `None` without one. Blocks for up to some ten seconds.
///
/// # Errors
/// When it cannot be used, with what to do.
pub(crate) fn look(workshop: &Workshop) -> Result<Option<(String, BTreeSet<Capability>)>, Failure> {
    let configured = &workshop.config.arena.database;
    if configured.mongodb_uri().is_none() || !workshop.config.scenario.database.mongodb {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let found = runtime.block_on(Remote::of(workshop))?;
    Ok(found
        .mongodb
        .map(|mongodb| (remote::described(&mongodb), mongodb.capabilities().clone())))
}

/// Returns the databases of a plan. `seen` is how a configured MongoDB describes itself.
pub(crate) fn chosen(workshop: &Workshop, plan: &Plan, seen: Option<String>) -> Vec<Chosen> {
    let configured = &workshop.config.arena.database;
    let has = &plan.databases.capabilities;
    let parts = |mongodb: bool| {
        let all = Capability::ALL
            .into_iter()
            .filter(|one| one.is_of_mongodb() == mongodb);
        let (can, cannot): (Vec<_>, Vec<_>) = all.partition(|one| has.contains(one));
        let titles = |list: Vec<Capability>| list.into_iter().map(Capability::title).collect();
        (titles(can), titles(cannot))
    };
    let mut all = Vec::new();
    if let Some(mongodb) = &plan.databases.mongodb {
        let (can, cannot): (_, Vec<_>) = parts(true);
        all.push(Chosen {
            kind: "MongoDB",
            title: seen.unwrap_or_else(|| mongodb.source.title().to_owned()),
            why: match (&configured.mongodb, &mongodb.source) {
                (Some(_), _) => "arena.database.mongodb says so",
                (None, MongodbSource::BuiltIn) => "nothing else is there",
                (None, _) => "it is on this machine",
            },
            can,
            better: mongodb.source.better().filter(|_| !cannot.is_empty()),
            cannot,
            experimental: mongodb.source.unseen(),
        });
    }
    if let Some(postgres) = &plan.databases.postgres {
        let (can, cannot) = parts(false);
        all.push(Chosen {
            kind: "PostgreSQL",
            title: postgres.source.title().to_owned(),
            why: match postgres.source {
                PostgresSource::BuiltIn => "no other is configured",
                PostgresSource::Uri => "arena.database.postgres says so",
            },
            can,
            cannot,
            experimental: None,
            better: None,
        });
    }
    all
}

/// Returns the exercises that need what the databases do not have.
pub(crate) fn greyed(workshop: &Workshop, plan: &Plan) -> Vec<Greyed> {
    let missing = workshop.exercises.iter().map(|exercise| Greyed {
        exercise: exercise.slug.to_string(),
        needs: plan
            .databases
            .missing(exercise)
            .into_iter()
            .map(Capability::title)
            .collect(),
    });
    missing.filter(|greyed| !greyed.needs.is_empty()).collect()
}

impl Chosen {
    /// Returns it as lines of `check`.
    pub(crate) fn lines(&self) -> String {
        let mark = match self.experimental {
            None => paint("✓", Paint::Green),
            Some(_) => paint("…", Paint::Yellow),
        };
        let mut text = format!(
            "{mark} {}: {}, because {}\n",
            self.kind, self.title, self.why
        );
        let mut can = format!("can be taught: {}", self.can.join(", "));
        if !self.cannot.is_empty() {
            can.push_str(&format!("; not: {}", self.cannot.join(", ")));
        }
        let further = [Some(can.as_str()), self.experimental, self.better];
        for line in further.into_iter().flatten() {
            text.push_str(&format!("    {line}\n"));
        }
        text
    }
}

impl Greyed {
    /// Returns it as a line of `check`.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} exercise {} is greyed out: it needs {}\n",
            paint("…", Paint::Yellow),
            self.exercise,
            self.needs.join(", ")
        )
    }
}
