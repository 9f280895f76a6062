//! Looks after seats that do not come up by themselves. The supervisor starts a
//! seat again a few times and then gives it up; here people are told why, and
//! the seat is tried again from time to time, as is a participant's editor that
//! was given up inside it: who mends the cause need not know of Arena.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arena_store::{Actor, EditorStatus, OrderKind};
use arena_supervisor::State;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::seat::SeatWatch;

/// How long something that was given up is left alone.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How long a seat may take to come up when a facilitator starts it again, its retries included.
const RESTART_LIMIT: Duration = Duration::from_secs(120);
/// Longest reason, in characters.
const REASON_MAX: usize = 300;

/// Follows a seat's process and editor until `shutdown`.
pub(super) async fn look_after(
    seat: Arc<SeatWatch>,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut process = seat.child().changes();
    let mut editor = seat.editor.subscribe();
    loop {
        let state = process.borrow_and_update().state.clone();
        let editor_failed = *editor.borrow_and_update() == EditorStatus::Failed;
        match &state {
            State::Failed(why) | State::Ended(_, why) => {
                let reason = format!("the seat does not start: {}", in_a_line(why));
                seat.give_up(&shared, Some(reason)).await?;
            }
            State::Ready => seat.give_up(&shared, None).await?,
            // A seat that is tried again is no better before it is ready.
            State::Asleep | State::Starting | State::Waiting(_) | State::Stopped => {}
        }
        let is_down = matches!(state, State::Failed(_) | State::Ended(..));
        // All branches only wait; what changed is looked up again.
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = process.changed() => changed.context("a seat's process is nobody's")?,
            changed = editor.changed() => changed.context("the seat is gone")?,
            () = tokio::time::sleep(TRIED_AGAIN_AFTER), if is_down => seat.child().restart(),
            () = tokio::time::sleep(TRIED_AGAIN_AFTER), if !is_down && editor_failed => {
                wake_for_who_sits_there(&seat, &shared).await?;
            }
        }
    }
}

async fn wake_for_who_sits_there(seat: &SeatWatch, shared: &Shared) -> anyhow::Result<()> {
    let record = shared.store.seat(seat.id());
    if record.is_some_and(|record| record.taken.is_some()) {
        let wake = OrderKind::WakeEditor {
            seat: seat.id().clone(),
        };
        shared.store.place_order(wake, Actor::System).await?;
    }
    Ok(())
}

/// Ends everything in a seat and starts it again, with its editor where somebody sits.
pub(super) async fn restart(shared: &Shared, seat: &SeatWatch) -> anyhow::Result<String> {
    let child = seat.child();
    let mut changes = child.changes();
    let before = changes.borrow_and_update().restarts;
    child.note("arena: a facilitator starts this seat again");
    child.restart();
    let settled = changes.wait_for(|status| {
        status.restarts != before
            && matches!(
                status.state,
                State::Ready | State::Failed(_) | State::Stopped
            )
    });
    let status = tokio::time::timeout(RESTART_LIMIT, settled)
        .await
        .context("the seat did not start in time")?
        .context("a seat's process is nobody's")?
        .clone();
    if let State::Failed(why) = &status.state {
        anyhow::bail!("the seat does not start: {}", in_a_line(why));
    }
    wake_for_who_sits_there(seat, shared).await?;
    Ok("seat started again".to_owned())
}

/// Why a process ended and what it said last, with the indented lines below that: the seat's words,
/// so bounded.
pub(super) fn in_a_line(why: &str) -> String {
    let mut lines = why.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let mut said = Vec::new();
    for line in lines.rev() {
        said.push(line.trim());
        if !line.starts_with(char::is_whitespace) {
            break;
        }
    }
    let words = std::iter::once(first).chain(said.into_iter().rev());
    let whole = words.collect::<Vec<_>>().join(" ");
    whole.chars().take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_how_it_ended_and_what_it_said_last() {
        for (why, line) in [
            (
                "exit code 1, without any output",
                "exit code 1, without any output",
            ),
            (
                "exit code 1; its last output:\nfirst\nlast\n\n",
                "exit code 1; its last output: last",
            ),
            (
                "exit code 1; its last output:\nfirst\nerror: it\n  because that",
                "exit code 1; its last output: error: it because that",
            ),
            ("", ""),
        ] {
            assert_eq!(in_a_line(why), line);
        }
        assert_eq!(in_a_line(&"x".repeat(5000)).len(), REASON_MAX);
    }
}
