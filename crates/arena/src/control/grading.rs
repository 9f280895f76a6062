//! Grading: which run is next is the grader's own queue; here runs become
//! tasks, and what they say becomes attempts in the store before anybody sees
//! it. Several orders for one seat and exercise are one run.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arena_grader::{GradeQueue, Limits, Run, grade};
use arena_store::{Attempt, CheckOutcome, Order, OrderId, OrderKind, Trigger};
use tokio::task::JoinSet;

use super::Shared;

/// Runs at the same time: most of a run is waiting for a seat.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");
/// At shutdown a run is left this long: markers in a seat's database are removed at its end.
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// Runs that wait and runs that run.
pub(super) struct Grading {
    shared: Arc<Shared>,
    queue: GradeQueue,
    /// Orders that a waiting run answers.
    waiting: BTreeMap<Run, Vec<(OrderId, Trigger)>>,
    running: JoinSet<anyhow::Result<(Run, Duration)>>,
}

impl Grading {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            queue: GradeQueue::new(AT_ONCE),
            waiting: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    /// Takes an order in.
    pub(super) fn push(&mut self, order: Order) {
        if let OrderKind::Grade {
            seat,
            exercise,
            trigger,
        } = order.kind
        {
            let run = Run { seat, exercise };
            self.queue.push(&run);
            self.waiting
                .entry(run)
                .or_default()
                .push((order.id, trigger));
        }
    }

    /// Starts what the queue lets run now.
    pub(super) fn start_what_may_run(&mut self) {
        while let Some(run) = self.queue.next() {
            let orders = self.waiting.remove(&run).unwrap_or_default();
            self.running
                .spawn(carry_out(Arc::clone(&self.shared), run, orders));
        }
    }

    /// Waits for the end of a run; for ever while none runs.
    ///
    /// # Errors
    /// When an attempt could not be written: what is not on disk is not shown.
    ///
    /// # Cancellation
    /// Nothing is lost: the run is still in the set.
    pub(super) async fn finished(&mut self) -> anyhow::Result<()> {
        match self.running.join_next().await {
            Some(ended) => {
                let (run, took) = ended.context("a grading run ended badly")??;
                self.queue.finish(&run.seat, took);
                Ok(())
            }
            None => std::future::pending().await,
        }
    }

    /// Lets what runs come to its end, for some seconds; orders that wait stay in the store.
    pub(super) async fn stop(mut self) {
        let ended = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            tracing::warn!(
                "grading runs were cut off at shutdown; their markers may remain in databases of seats"
            );
        }
    }
}

/// Grades once and writes the attempt, then ends the orders.
async fn carry_out(
    shared: Arc<Shared>,
    run: Run,
    orders: Vec<(OrderId, Trigger)>,
) -> anyhow::Result<(Run, Duration)> {
    for (id, _) in &orders {
        shared.store.start_order(*id).await?;
    }
    let exercise = shared
        .exercises
        .iter()
        .find(|exercise| exercise.slug == run.exercise);
    let (outcome, took) = match (shared.seats.get(&run.seat), exercise) {
        (Some(seat), Some(exercise)) if !exercise.checks.is_empty() => {
            let _login = seat.login.read().await;
            let mut access = seat.access();
            access.random_seed = seed();
            let grading = grade(exercise, &access, &Limits::default()).await;
            let took = grading.duration;
            let passed = grading.passed;
            shared
                .store
                .record_attempt(attempt(grading, &orders))
                .await?;
            (
                Ok(if passed { "passed" } else { "failed" }.to_owned()),
                took,
            )
        }
        (Some(_), Some(_)) => (
            Err(format!("{} has no checks", run.exercise)),
            Duration::ZERO,
        ),
        (None, _) => (
            Err(format!("there is no seat {} in what runs now", run.seat)),
            Duration::ZERO,
        ),
        (_, None) => (
            Err(format!(
                "there is no exercise {} in this scenario",
                run.exercise
            )),
            Duration::ZERO,
        ),
    };
    for (id, _) in orders {
        shared.store.finish_order(id, outcome.clone()).await?;
    }
    Ok((run, took))
}

/// A failed run that nobody asked for is a trial: shown, but it opens no hints and counts as no try.
fn attempt(grading: arena_grader::Grading, orders: &[(OrderId, Trigger)]) -> Attempt {
    let asked = orders
        .iter()
        .map(|(_, trigger)| *trigger)
        .find(|trigger| matches!(trigger, Trigger::Button | Trigger::Facilitator));
    let trigger = asked
        .or_else(|| orders.first().map(|(_, trigger)| *trigger))
        .unwrap_or(Trigger::Sweep);
    Attempt {
        seat: grading.seat,
        exercise: grading.exercise,
        version: grading.version,
        files_hash: grading.files_hash,
        trigger,
        trial: !grading.passed && asked.is_none(),
        passed: grading.passed,
        checks: grading
            .checks
            .into_iter()
            .map(|check| CheckOutcome {
                name: check.name,
                passed: check.passed,
                message: check.message.unwrap_or_default(),
            })
            .collect(),
        started_at: grading.started_at,
        duration: grading.duration,
    }
}

/// Random values of a run must not be guessed from the last one's.
fn seed() -> u64 {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    u64::from_le_bytes(bytes)
}
