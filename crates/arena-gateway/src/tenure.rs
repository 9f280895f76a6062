//! How long somebody may stay: what was opened with a session ends with it, also
//! what is open for hours (WebSockets, streams of events).

use std::pin::Pin;

use arena_store::{Session, Store, Visit};

/// Ends when a person has to go.
pub(crate) type Ending = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// With what right somebody is here.
#[derive(Clone)]
pub(crate) struct Tenure {
    store: Store,
    session: String,
    visit: Option<Visit>,
}

impl Tenure {
    pub(crate) fn new(store: &Store, session: &Session, visit: Option<&Visit>) -> Self {
        Self {
            store: store.clone(),
            session: session.id.clone(),
            visit: visit.cloned(),
        }
    }

    /// Waits until the session has ended, and of a visit until it has: by its own time, or with the
    /// facilitator's session.
    pub(crate) fn ended(self) -> Ending {
        Box::pin(async move {
            let own = self.store.session_ended(&self.session);
            let Some(visit) = &self.visit else {
                return own.await;
            };
            // Each branch only waits.
            tokio::select! {
                () = own => {}
                () = self.store.session_ended(&visit.session) => {}
                () = tokio::time::sleep(visit.remaining()) => {}
            }
        })
    }
}
