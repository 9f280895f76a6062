//! The list of names while the event runs. Who is new on it gets a seat, who was
//! taken off is locked out and keeps files, databases and results, and nobody
//! else notices. Begin at [`serve`].
//!
//! Every step can be repeated: an event that was killed halfway is started from
//! the list like any other, and what was not done then is done.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use arena_gateway::Routes;
use arena_store::Store;
use arena_workshop::participants::{Participants, Seat};
use arena_workshop::plan::{Isolation, SeatPlan};
use arena_workshop::{Plan, SeatId, Workshop};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::databases::Databases;
use super::logins::Logins;
use super::seats::StartedSeats;
use super::{Prepared, SeatLink, Tasks};
use crate::control::{ControlledSeat, SeatChange};
use crate::failure::Failure;

/// What a change of the list needs of the running event.
pub(crate) struct List {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) logins: Logins,
    pub(crate) store: Store,
    pub(crate) databases: Arc<Databases>,
    pub(crate) seats: Arc<StartedSeats>,
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    /// Where control learns who comes and goes.
    pub(crate) changes: mpsc::Sender<SeatChange>,
}

/// What a change of the list did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// Who is new, or back.
    pub(crate) come: Vec<SeatLink>,
    /// Seats that are locked out.
    pub(crate) gone: Vec<String>,
    /// Walk-in seats that are new.
    pub(crate) spare: Vec<String>,
}

impl Changed {
    /// Whether the list was as it is.
    pub(crate) fn is_nothing(&self) -> bool {
        self.come.is_empty() && self.gone.is_empty() && self.spare.is_empty()
    }
}

/// A list to apply, and who waits for what came of it.
pub(crate) type Asked = (Vec<Seat>, oneshot::Sender<Result<Changed, String>>);

/// Applies one list after the other, until the doors close.
///
/// # Errors
/// When a way out of a seat that came later breaks.
pub(crate) async fn serve(
    list: List,
    mut asked: mpsc::Receiver<Asked>,
    (doors, ground): (CancellationToken, CancellationToken),
) -> anyhow::Result<()> {
    let mut tasks = Tasks::default();
    // Seats whose ways are served; they stay when the seat goes.
    let plan = list.logins.plan();
    let mut served: BTreeSet<SeatId> = plan.seats.iter().map(|seat| seat.id.clone()).collect();
    loop {
        // A list that was not taken stays in the channel.
        let (seats, answer) = tokio::select! {
            () = doors.cancelled() => break,
            why = tasks.ended() => return Err(why),
            asked = asked.recv() => asked.context("the platform's door is gone")?,
        };
        // Dropped halfway it is done again by the next start.
        let changed = tokio::select! {
            () = doors.cancelled() => break,
            changed = list.apply(seats, &mut served, &mut tasks, &ground) => changed,
        };
        // Whoever asked may have gone.
        let _ = answer.send(changed.map_err(|failure| failure.told()));
    }
    tasks.all_end().await;
    Ok(())
}

impl List {
    async fn apply(
        &self,
        seats: Vec<Seat>,
        served: &mut BTreeSet<SeatId>,
        tasks: &mut Tasks,
        ground: &CancellationToken,
    ) -> Result<Changed, Failure> {
        let before = self.logins.plan();
        let workshop = Workshop {
            participants: Participants { seats },
            ..self.prepared.workshop.clone()
        };
        let fresh = arena_workshop::plan(&workshop, &self.prepared.target);
        let gone = missing(&before, &fresh);
        let come = missing(&fresh, &before);
        if self.prepared.plan.isolation == Isolation::None && !(gone.is_empty() && come.is_empty())
        {
            let error = anyhow::anyhow!("without isolation there is one seat");
            return Err(Failure::environment(error)
                .hint("change who sits there with `arena down` and `arena up`"));
        }
        // First what may fail: then nothing has changed yet.
        for seat in &gone {
            self.databases.lock_out(seat).await?;
        }
        // Names may have changed, too.
        self.put_in_force(&workshop, &without(&fresh, &come))
            .await?;
        for seat in &gone {
            self.stop(&seat.id).await?;
        }
        self.logins.keep(&fresh)?;
        for seat in &come {
            if served.insert(seat.id.clone()) {
                self.seats
                    .serve_ways(&self.databases, seat, tasks, ground)
                    .await?;
            }
            self.let_in(seat).await?;
        }
        self.put_in_force(&workshop, &fresh).await?;
        let mut changed = Changed {
            gone: gone.iter().map(|seat| seat.id.to_string()).collect(),
            ..Changed::default()
        };
        for seat in &come {
            match super::link(&fresh, seat, &self.store) {
                Some(link) => changed.come.push(link),
                None => changed.spare.push(seat.id.to_string()),
            }
        }
        Ok(changed)
    }

    /// Lets everybody see these seats and no others.
    async fn put_in_force(&self, workshop: &Workshop, plan: &Plan) -> Result<(), Failure> {
        self.logins.keep(plan)?;
        self.logins.set_plan(plan.clone());
        let synced = self.store.sync_seats(super::specs(workshop, plan)).await;
        synced.context("cannot write the seats")?;
        let routes = super::routes(&self.prepared, plan, &self.seats);
        self.routes.store(Arc::new(routes));
        super::keep_plan(&self.prepared.places, plan)?;
        Ok(())
    }

    /// Ends a seat that nobody sees any more; its files stay.
    async fn stop(&self, seat: &SeatId) -> anyhow::Result<()> {
        let told = self.changes.send(SeatChange::Goes(seat.clone())).await;
        told.ok().context("control is stopping")?;
        self.seats.stop(seat).await;
        Ok(())
    }

    /// Makes a seat that nobody sees yet, or starts it again with what it had.
    async fn let_in(&self, seat: &SeatPlan) -> anyhow::Result<()> {
        let failed = || format!("cannot make the seat {}", seat.id);
        // Begun by a list that failed halfway.
        self.seats.stop(&seat.id).await;
        self.databases.make_seat(seat).await.with_context(failed)?;
        let child = self.seats.add(seat).await.with_context(failed)?;
        let controlled = ControlledSeat {
            plan: seat.clone(),
            socket: self.seats.socket(&seat.id),
            child,
            databases: Arc::clone(&self.databases),
        };
        let change = SeatChange::Comes(Box::new(controlled));
        let told = self.changes.send(change).await;
        told.ok().context("control is stopping")
    }
}

/// Returns the seats of one plan that another does not have.
fn missing(of: &Plan, other: &Plan) -> Vec<SeatPlan> {
    let has = |seat: &&SeatPlan| !other.seats.iter().any(|theirs| theirs.id == seat.id);
    of.seats.iter().filter(has).cloned().collect()
}

/// Returns the plan without some of its seats; their hosts lead nowhere.
fn without(plan: &Plan, seats: &[SeatPlan]) -> Plan {
    let mut plan = plan.clone();
    plan.seats
        .retain(|seat| !seats.iter().any(|other| other.id == seat.id));
    plan
}
