//! Ports of a seat. On a loopback of its own they are those that everybody knows; a seat that
//! shares the machine's loopback has a range of its own, so that it meets nobody else's programs.

use super::{AppKind, Isolation, Target};
use crate::config::Llm;

/// Ports of a seat that shares the machine's loopback.
pub const PORTS: u16 = 8;

/// Where the language model is found inside a seat, unless the config says otherwise.
const LLM: u16 = 4000;

/// The ports of a seat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) backend: u16,
    pub(super) react: u16,
    pub(super) postgres_app: u16,
    pub(super) mongodb: u16,
    pub(super) postgres: u16,
    /// The filtered way out; a seat that is not separated has the machine's own.
    pub(super) outbound: Option<u16>,
    pub(super) llm: u16,
}

impl Ports {
    pub(super) fn of(target: &Target, llm: &Llm) -> Self {
        if target.isolation == Isolation::None {
            let first = target.first_port;
            return Self {
                backend: first,
                react: first + 1,
                postgres_app: first + 2,
                mongodb: first + 3,
                postgres: first + 4,
                outbound: None,
                llm: first + 5,
            };
        }
        let proxy = llm.proxy.as_ref().and_then(|proxy| proxy.port);
        Self {
            backend: 5000,
            react: 3001,
            postgres_app: 5001,
            mongodb: 27017,
            postgres: 5432,
            outbound: Some(3128),
            llm: proxy.unwrap_or(LLM),
        }
    }

    /// Returns the port on which an app of that kind listens.
    pub(super) fn app(&self, kind: AppKind) -> Option<u16> {
        match kind {
            AppKind::Backend => Some(self.backend),
            AppKind::Frontend => None,
            AppKind::React => Some(self.react),
            AppKind::Postgres => Some(self.postgres_app),
        }
    }
}
