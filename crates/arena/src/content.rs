//! A workshop whose content lies in a repository: fetched in the sandbox, then
//! read like any folder. `up` keeps it beside the event's state; `check` and
//! `plan` fetch it for themselves and leave nothing.

use std::path::Path;

use anyhow::Context;
use arena_local::outbound::{self, Allowed, Network, Rule};
use arena_local::repository::{Fetched, Repositories, Repository};
use arena_local::sandbox::Sandbox;
use arena_local::template::{Progress as Said, Supplies};
use arena_workshop::SeatId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::failure::Failure;
use crate::platform::places;
use crate::progress::Line;

/// The way out of what fetches is named like a seat that cannot exist (ids are labels).
const NAME: &str = "content";

/// Where content is fetched to.
pub(crate) struct Store<'a> {
    /// How strangers' files are kept apart.
    pub(crate) sandbox: Sandbox,
    /// A folder of ours for the versions.
    pub(crate) folder: &'a Path,
    /// A folder of ours with a short path, for a socket; made, and removed afterwards.
    pub(crate) services: &'a Path,
}

/// Fetches the newest version, or finds the kept one.
///
/// # Errors
/// When the repository does not answer and nothing is kept, with what to do.
///
/// # Cancellation
/// What was begun is swept by the next call.
pub(crate) async fn fetch(
    store: Store<'_>,
    repository: &Repository,
    line: &Line,
) -> Result<Fetched, Failure> {
    let mut ways = JoinSet::new();
    let shutdown = CancellationToken::new();
    let mut supplies = Supplies::default();
    if repository.local().is_none() {
        std::fs::create_dir_all(store.services)
            .with_context(|| format!("cannot make {}", store.services.display()))?;
        let listener = places::bind(&store.services.join("outbound.sock"))?;
        let settings = outbound::Settings {
            seat: SeatId::new(NAME).context("a label is a seat id")?,
            allowed: Allowed::List(rule(repository).into_iter().collect()),
            limits: outbound::Limits::default(),
            network: Network::system(),
        };
        ways.spawn(outbound::serve(settings, listener, shutdown.clone()));
        supplies.services = Some(store.services.to_owned());
    }
    let repositories = Repositories::new(store.sandbox, store.folder);
    let wanted = repository.clone();
    let (sender, mut said) = tokio::sync::mpsc::unbounded_channel();
    let work = tokio::task::spawn_blocking(move || {
        repositories.fetch(&wanted, &supplies, &|progress| {
            if let Said::Step(step) = progress {
                let _ = sender.send(step.to_owned());
            }
        })
    });
    while let Some(step) = said.recv().await {
        line.update(&step);
    }
    let fetched = work.await.context("fetching the repository broke")?;
    shutdown.cancel();
    while ways.join_next().await.is_some() {}
    // Only our own socket lies there.
    let _ = std::fs::remove_dir_all(store.services);
    fetched.map_err(|error| {
        let hint = error.hint();
        let failure = Failure::environment(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

/// Who configures an event may name any host of the networks that this machine is in.
fn rule(repository: &Repository) -> Option<Rule> {
    Rule::registry(&Url::parse(&repository.url).ok()?)
}

/// Returns the first digits of a version, as people say it.
pub(crate) fn short(version: &str) -> &str {
    version.get(..8).unwrap_or(version)
}
