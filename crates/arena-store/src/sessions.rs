//! Sessions, and the hand-over of a session to another host. The file holds
//! only hashes of secrets. Hand-overs live in memory: half a minute is their life.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use crate::links::{hash, random_text, same_bytes};
use crate::model::{Change, parsed};
use crate::store::Store;
use crate::types::Principal;
use crate::writer::WriteError;

/// How long a hand-over's code can be redeemed.
const HANDOVER_LIFE: Duration = Duration::from_secs(30);
/// Hand-overs that may wait at once; the oldest give way.
const HANDOVERS_MAX: usize = 10_000;

/// The secret of a session, as the cookie holds it. Shown only by [`SessionSecret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret(String);

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Names the session without giving it: for tokens against forged requests.
    pub id: String,
    /// Whose it is.
    pub principal: Principal,
}

impl SessionSecret {
    /// Returns the secret's text, fit for a cookie.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

impl Store {
    /// Makes a session for one host and returns its secret.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn create_session(
        &self,
        principal: Principal,
        host: &str,
    ) -> Result<SessionSecret, WriteError> {
        let (secret, id, host) = (random_text(32)?, random_text(12)?, host.to_owned());
        let id: String = id.bytes().map(|byte| format!("{byte:02x}")).collect();
        let secret_hash = hash(secret.as_bytes());
        self.write(move |work| {
            work.connection
                .prepare_cached("insert into sessions (id, secret_hash, host, principal, at) values (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![id, secret_hash, host, principal.to_string(), work.now.as_microsecond()])?;
            work.changes.push(Change::Session(secret_hash, host, Session { id, principal }));
            Ok::<_, WriteError>(())
        })
        .await?;
        Ok(SessionSecret(secret))
    }

    /// Returns the session of a secret on that host.
    pub fn session(&self, secret: &str, host: &str) -> Option<Session> {
        let hash = hash(secret.as_bytes());
        self.model(|model| {
            model
                .sessions
                .get(&hash)
                .filter(|(of, _)| of == host)
                .map(|(_, session)| session.clone())
        })
    }

    /// Returns whether a session with that id goes on.
    pub fn session_holds(&self, id: &str) -> bool {
        self.model(|model| model.session_ids.contains(id))
    }

    /// Waits until no session has that id, or the store is closed.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub async fn session_ended(&self, id: &str) {
        let mut endings = self.shared().endings.subscribe();
        while self.session_holds(id) && endings.changed().await.is_ok() {}
    }

    /// Ends a session by its id. No-op if there is none.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn end_session(&self, id: &str) -> Result<(), WriteError> {
        let id = id.to_owned();
        self.write(move |work| {
            work.connection
                .prepare_cached("delete from sessions where id = ?1")?
                .execute([&id])?;
            work.changes.push(Change::SessionEnded(id));
            Ok(())
        })
        .await
    }

    /// Makes a code that gives `principal` a session on `host`, once, within 30 seconds, to
    /// whoever knows the nonce whose SHA-256 is `nonce_hash`.
    ///
    /// # Errors
    /// When the machine gives no random numbers.
    pub fn create_handover(
        &self,
        host: &str,
        principal: Principal,
        nonce_hash: [u8; 32],
    ) -> Result<String, WriteError> {
        let code = random_text(32)?;
        let handover = Handover {
            host: host.to_owned(),
            principal,
            nonce_hash,
            until: Instant::now() + HANDOVER_LIFE,
        };
        self.shared()
            .handovers()
            .add(hash(code.as_bytes()), handover);
        Ok(code)
    }

    /// Redeems such a code. A code that was shown to the wrong host or with a wrong nonce is gone.
    pub fn redeem_handover(&self, code: &str, host: &str, nonce: &[u8]) -> Option<Principal> {
        let handover = self
            .shared()
            .handovers()
            .waiting
            .remove(&hash(code.as_bytes()))?;
        let holds = handover.until >= Instant::now()
            && handover.host == host
            && same_bytes(&handover.nonce_hash, &hash(nonce));
        holds.then_some(handover.principal)
    }
}

/// Hand-overs that were made and not redeemed, by hash of the code.
#[derive(Default)]
pub(crate) struct Handovers {
    waiting: HashMap<[u8; 32], Handover>,
}

struct Handover {
    host: String,
    principal: Principal,
    nonce_hash: [u8; 32],
    until: Instant,
}

impl Handovers {
    fn add(&mut self, code: [u8; 32], handover: Handover) {
        if self.waiting.len() >= HANDOVERS_MAX {
            let now = Instant::now();
            self.waiting.retain(|_, handover| handover.until >= now);
        }
        if self.waiting.len() >= HANDOVERS_MAX
            && let Some(oldest) = self
                .waiting
                .iter()
                .min_by_key(|(_, handover)| handover.until)
                .map(|(code, _)| *code)
        {
            self.waiting.remove(&oldest);
        }
        self.waiting.insert(code, handover);
    }
}

/// Reads all sessions, by hash of the secret.
pub(crate) fn load(
    connection: &Connection,
) -> rusqlite::Result<HashMap<[u8; 32], (String, Session)>> {
    let mut statement =
        connection.prepare("select secret_hash, host, id, principal from sessions")?;
    let rows = statement.query_map([], |row| {
        Ok((
            row.get(0)?,
            (
                row.get(1)?,
                Session {
                    id: row.get(2)?,
                    principal: parsed(row, 3)?,
                },
            ),
        ))
    })?;
    rows.collect()
}
