//! The seats' log-ins at their databases while an event runs: the one owner of
//! their passwords. Whoever needs one asks each time (the seat's settings, its
//! page, the provisioner, the grader), so that a new password reaches all of them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use arena_database::SeatDatabase;
use arena_workshop::plan::{SeatPlan, SeatSettings, SecretName};
use arena_workshop::{Plan, SeatId};

use crate::platform::Prepared;
use crate::platform::places::Places;
use crate::platform::remote::Remote;
use crate::platform::secrets::{self, Secrets};

/// Log-ins of all seats. Clones share them.
#[derive(Clone)]
pub(crate) struct Logins {
    inner: Arc<Inner>,
}

struct Inner {
    /// The plan that runs: its seats change with the list of names.
    plan: ArcSwap<Plan>,
    places: Places,
    secrets: Secrets,
    remote: Remote,
}

impl Logins {
    /// Returns the log-ins of the plan's seats.
    pub(crate) fn new(prepared: &Prepared, secrets: Secrets) -> Self {
        let inner = Inner {
            plan: ArcSwap::from_pointee(prepared.plan.clone()),
            places: prepared.places.clone(),
            secrets,
            remote: prepared.remote.clone(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns the plan that runs now.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.inner.plan.load_full()
    }

    /// Makes the log-ins of a plan's seats, those that are not there yet.
    ///
    /// # Errors
    /// When a secret cannot be written.
    pub(crate) fn keep(&self, plan: &Plan) -> anyhow::Result<()> {
        for name in &plan.secrets {
            self.inner.secrets.keep(name)?;
        }
        Ok(())
    }

    /// Puts another plan in force.
    pub(crate) fn set_plan(&self, plan: Plan) {
        self.inner.plan.store(Arc::new(plan));
    }

    /// Returns a seat's log-in as it is now.
    pub(crate) fn of(&self, seat: &SeatPlan) -> SeatDatabase {
        let secret = SecretName::seat_database(&seat.id);
        let password = self.inner.secrets.get(&secret);
        SeatDatabase {
            name: seat.database.clone(),
            password: password.expect("a plan with databases names every seat's password"),
        }
    }

    /// Makes a log-in with a fresh password, which nobody knows yet.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub(crate) fn fresh(&self, seat: &SeatPlan) -> anyhow::Result<SeatDatabase> {
        Ok(SeatDatabase {
            name: seat.database.clone(),
            password: secrets::random()?,
        })
    }

    /// Replaces a seat's log-in; everybody who asks gets this one, also after a restart.
    ///
    /// # Errors
    /// When it cannot be written; then the old one stays.
    pub(crate) fn replace(&self, seat: &SeatPlan, login: &SeatDatabase) -> anyhow::Result<()> {
        let secret = SecretName::seat_database(&seat.id);
        self.inner.secrets.replace(&secret, &login.password)
    }

    /// Returns what a seat's agent is told, with the log-in as it is now.
    ///
    /// # Errors
    /// When the seat's environment names a secret that does not exist.
    pub(crate) fn settings(&self, seat: &SeatPlan) -> anyhow::Result<SeatSettings> {
        let uri = SecretName::seat_mongodb_uri(&seat.id);
        let secret = |name: &SecretName| {
            if *name == uri {
                self.inner.remote.seat_uri(&self.of(seat))
            } else {
                self.inner.secrets.get(name)
            }
        };
        self.plan()
            .seat_settings(seat, secret)
            .with_context(|| format!("cannot make the settings of seat {}", seat.id))
    }

    /// Returns the plan's seat of that name.
    pub(crate) fn seat(&self, seat: &SeatId) -> Option<SeatPlan> {
        let plan = self.plan();
        plan.seats.iter().find(|plan| plan.id == *seat).cloned()
    }

    /// Returns the seat whose databases bear that name.
    pub(crate) fn seat_of_database(&self, name: &str) -> Option<SeatId> {
        let plan = self.plan();
        let mut seats = plan.seats.iter();
        let seat = seats.find(|seat| seat.database.as_str() == name)?;
        Some(seat.id.clone())
    }

    /// Returns whether this event ever had that seat.
    pub(crate) fn has_had(&self, seat: &str) -> bool {
        self.inner.secrets.has_seat(seat)
    }

    /// Returns the folder with the sockets of a seat's services.
    pub(crate) fn services(&self, seat: &SeatId) -> PathBuf {
        self.inner.places.services(seat)
    }
}
