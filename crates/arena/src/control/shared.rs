//! Keeps `arena_shared` as the store is: participants, results, how exercises
//! stand, the scenario. Workshop apps read it with their own seat's connection.
//! E-mails are never read here, so they cannot get there.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use arena_database::{
    SharedContents, SharedExercise, SharedHealth, SharedParticipant, SharedResult,
};
use arena_store::{SeatRecord, Store};
use arena_workshop::{ExerciseSlug, Workshop};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Shared;

/// What happens within this time is written together.
const GATHER: Duration = Duration::from_millis(250);
/// Before the server is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Writes what changes, until `shutdown`.
pub(super) async fn publish(
    shared: Arc<Shared>,
    scenario: Value,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Some(mut writer) = shared
        .provisioner
        .as_ref()
        .and_then(|provisioner| provisioner.shared_writer())
    else {
        return Ok(());
    };
    let listed: Vec<ExerciseSlug> = shared
        .exercises
        .iter()
        .map(|exercise| exercise.slug.clone())
        .collect();
    let mut changed = shared.store.events_changed();
    let mut is_known_to_fail = false;
    loop {
        changed.borrow_and_update();
        let contents = contents(&shared.store, &listed, &scenario);
        // What was half written is written by the next round, or after the next start.
        let written = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            written = writer.write(&contents) => written,
        };
        if let Err(error) = &written
            && !is_known_to_fail
        {
            tracing::warn!(error = %format!("{error:#}"), "cannot write the shared database; trying again");
        }
        is_known_to_fail = written.is_err();
        let next = async {
            if is_known_to_fail {
                tokio::time::sleep(RETRY).await;
                return Ok(());
            }
            changed.changed().await.context("the store is gone")?;
            tokio::time::sleep(GATHER).await;
            anyhow::Ok(())
        };
        // Waiting may be dropped.
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            waited = next => waited?,
        }
    }
}

fn contents(store: &Store, listed: &[ExerciseSlug], scenario: &Value) -> SharedContents {
    let seats = store.seats();
    let shown = seats
        .iter()
        .filter(|seat| seat.listed || seat.taken.is_some());
    SharedContents {
        participants: shown.map(participant).collect(),
        results: store
            .results()
            .into_iter()
            // As on the portal's board: what the scenario no longer lists does not count.
            .filter(|row| listed.contains(&row.exercise))
            .map(|row| SharedResult {
                exercise: row.exercise.to_string(),
                seat: row.seat.to_string(),
                at: system_time(row.at),
            })
            .collect(),
        health: seats
            .iter()
            .filter_map(|seat| health(store, seat, listed))
            .collect(),
        scenario: with_close_on(scenario, store),
        close_on: store.close_on().map(system_time),
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    let since = u64::try_from(at.as_microsecond()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_micros(since)
}

fn participant(seat: &SeatRecord) -> SharedParticipant {
    SharedParticipant {
        seat: seat.seat.to_string(),
        name: seat.display_name.clone(),
        taken: seat.taken.as_ref().map(|taken| system_time(taken.at)),
        hidden: seat.excluded,
        decommissioned: seat.decommissioned,
    }
}

/// How a seat's exercises stand; nothing before the first grading.
fn health(store: &Store, seat: &SeatRecord, listed: &[ExerciseSlug]) -> Option<SharedHealth> {
    let mut states = store.exercises(&seat.seat);
    states.retain(|slug, _| listed.contains(slug));
    let last = states.values().filter_map(|state| state.last_at).max()?;
    let exercises = states.iter().map(|(slug, state)| SharedExercise {
        name: slug.to_string(),
        passed: state.solved_at.is_some(),
        failure: state
            .checks
            .iter()
            .find(|check| !check.passed)
            .map(|check| {
                if check.message.is_empty() {
                    check.name.clone()
                } else {
                    check.message.clone()
                }
            })
            .unwrap_or_default(),
    });
    Some(SharedHealth {
        seat: seat.seat.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: system_time(last),
        total: u32::try_from(listed.len()).unwrap_or(u32::MAX),
        exercises: exercises.collect(),
    })
}

/// The scenario as workshop apps may read it: by name what they need, so that no password or key of the
/// configuration is among it.
pub(crate) fn scenario(workshop: &Workshop) -> Value {
    let keys = &workshop.config.scenario;
    let sections = keys.instructions.sections.iter();
    let navigation = workshop.navigation.sections.iter().map(|section| {
        let pages = section.pages.iter();
        let children: Vec<Value> = pages
            .map(|page| json!({ "title": page.title, "url": page.url }))
            .collect();
        json!({ "title": section.title, "children": children })
    });
    let answers = workshop.needed_answers.iter();
    json!({
        "version": keys.version,
        "database": { "mongodb": keys.database.mongodb, "postgres": keys.database.has_postgres() },
        "llm": { "enabled": keys.llm.enabled },
        "frontend": keys.frontend,
        "backend": keys.backend,
        "leaderboard": { "type": keys.leaderboard.r#type.as_str() },
        "instructions": {
            "base": keys.instructions.base,
            "sections": sections.map(|section| json!({ "title": section.title, "content": section.content })).collect::<Vec<_>>(),
        },
        "navigation": navigation.collect::<Vec<_>>(),
        "needed_answer_files": answers.map(|slug| format!("{slug}.lab.js")).collect::<Vec<_>>(),
    })
}

fn with_close_on(scenario: &Value, store: &Store) -> Value {
    let mut scenario = scenario.clone();
    if let Some(leaderboard) = scenario.get_mut("leaderboard") {
        leaderboard["close_on"] = json!(store.close_on().map(|at| at.to_string()));
    }
    scenario
}

#[cfg(test)]
mod tests {
    use arena_store::{Actor, Attempt, CheckOutcome, SeatSpec, Trigger};
    use arena_workshop::SeatId;

    use super::*;

    fn attempt(seat: &SeatId, exercise: &str, passed: bool) -> Attempt {
        Attempt {
            seat: seat.clone(),
            exercise: ExerciseSlug::new(exercise).unwrap(),
            version: String::new(),
            files_hash: String::new(),
            trigger: Trigger::Button,
            trial: false,
            passed,
            checks: vec![CheckOutcome {
                name: "lists".to_owned(),
                passed,
                message: "expected 10, got 9".to_owned(),
            }],
            started_at: Timestamp::now(),
            duration: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn what_is_shared_tells_everything_but_the_e_mail() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("event.db")).unwrap();
        let ada = SeatId::new("ada").unwrap();
        let spec = |seat: &SeatId, listed: bool| SeatSpec {
            seat: seat.clone(),
            display_name: "Ada".to_owned(),
            email: listed.then(|| "ada@example.test".to_owned()),
            listed,
        };
        let spare = SeatId::new("arena0").unwrap();
        store
            .sync_seats(vec![spec(&ada, true), spec(&spare, false)])
            .await
            .unwrap();
        store.take_listed(&ada).await.unwrap();
        store.take_free("Zoe", "zoe@example.test").await.unwrap();
        for (exercise, passed) in [("crud-1", true), ("crud-2", false), ("gone-1", true)] {
            store
                .record_attempt(attempt(&ada, exercise, passed))
                .await
                .unwrap();
        }
        store
            .set_excluded(&spare, true, Actor::System)
            .await
            .unwrap();
        let listed = ["crud-1", "crud-2", "crud-3"].map(|slug| ExerciseSlug::new(slug).unwrap());
        let shared = contents(&store, &listed, &json!({ "leaderboard": {} }));
        let told = format!("{shared:?}");
        assert!(
            !told.contains('@') && !told.contains("example.test"),
            "{told}"
        );
        // The negative control: the store beside it knows them.
        assert_eq!(store.email(&ada).as_deref(), Some("ada@example.test"));
        assert_eq!(shared.participants.len(), 2);
        assert!(shared.participants[1].hidden && shared.participants[0].taken.is_some());
        assert_eq!(shared.results.len(), 1);
        let health = &shared.health[0];
        assert_eq!((health.exercises.len(), health.total), (2, 3));
        assert_eq!(health.exercises[1].failure, "expected 10, got 9");
    }
}
