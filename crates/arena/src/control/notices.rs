//! Tells people why a seat was started again: the facilitators in the room, the
//! participant on the seat's page and in the terminal named *server*.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arena_local::watch::Stopped;
use arena_store::Actor;
use arena_workshop::SeatId;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;

/// A notice stays in the room this long.
const STAYS: Duration = Duration::from_secs(15 * 60);

/// Tells of every stop until `shutdown`.
pub(super) async fn tell(
    shared: Arc<Shared>,
    mut stops: mpsc::Receiver<Stopped>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut shown: BTreeMap<SeatId, Instant> = BTreeMap::new();
    loop {
        let next = shown.values().min().copied();
        // What was not received stays in the channel; the timer is made anew.
        let stopped = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            stopped = stops.recv() => stopped,
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                forget(&shared, &mut shown).await?;
                continue;
            }
        };
        let Some(Stopped { seat, reason }) = stopped else {
            return Ok(());
        };
        let Some(watch) = shared.seats.get(&seat) else {
            continue;
        };
        let text = format!("Your seat was started again: {reason}. Your files are as they were.");
        watch.notice(&shared, Some(reason.to_string())).await?;
        shared
            .store
            .post_message(Some(seat.clone()), text, Actor::System)
            .await?;
        shown.insert(seat, Instant::now() + STAYS);
    }
}

/// Takes notices from the room that have stood there long enough.
async fn forget(shared: &Shared, shown: &mut BTreeMap<SeatId, Instant>) -> anyhow::Result<()> {
    let now = Instant::now();
    let old: Vec<SeatId> = shown
        .iter()
        .filter(|(_, until)| **until <= now)
        .map(|(seat, _)| seat.clone())
        .collect();
    for seat in old {
        shown.remove(&seat);
        if let Some(watch) = shared.seats.get(&seat) {
            watch.notice(shared, None).await?;
        }
    }
    Ok(())
}
