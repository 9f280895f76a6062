//! Links and codes that let people in: the event's code, personal links of
//! participants, one-time links of facilitators.

use arena_workshop::SeatId;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use rusqlite::params;
use sha2::{Digest, Sha256};

use crate::store::Store;
use crate::writer::WriteError;

impl Store {
    /// Returns the event's own secret: the key of everything the event signs.
    pub fn event_secret(&self) -> [u8; 32] {
        self.model(|model| model.secrets.event_secret)
    }

    /// Returns the code that lets people join: six capital letters.
    pub fn event_code(&self) -> String {
        self.model(|model| model.secrets.event_code.clone())
    }

    /// Returns the token of a seat's personal link; it changes when the seat is given back.
    pub fn link_token(&self, seat: &SeatId) -> Option<String> {
        self.model(|model| {
            let record = model.seat(seat)?;
            Some(link_token(
                &model.secrets.event_secret,
                seat,
                record.sitting,
            ))
        })
    }

    /// Returns the seat whose personal link has that token.
    pub fn seat_for_link(&self, token: &str) -> Option<SeatId> {
        self.model(|model| {
            // Every seat's token is compared, so that the time taken says nothing.
            let mut found = None;
            for record in model.seats.iter().filter(|record| !record.decommissioned) {
                let wanted = link_token(&model.secrets.event_secret, &record.seat, record.sitting);
                if same_bytes(wanted.as_bytes(), token.as_bytes()) {
                    found = Some(record.seat.clone());
                }
            }
            found
        })
    }

    /// Makes a link that makes whoever opens it first a facilitator, and returns its token.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn create_facilitator_link(&self) -> Result<String, WriteError> {
        let token = random_text(24)?;
        let token_hash = hash(token.as_bytes());
        self.write(move |work| {
            work.connection
                .prepare_cached("insert into facilitator_links (token_hash, at) values (?1, ?2)")?
                .execute(params![token_hash, work.now.as_microsecond()])?;
            Ok::<_, WriteError>(())
        })
        .await?;
        Ok(token)
    }

    /// Returns whether a facilitator link waits to be redeemed. Reads the file.
    pub fn facilitator_link_waits(&self, token: &str) -> bool {
        let token_hash = hash(token.as_bytes());
        self.read(|connection| {
            connection
                .prepare_cached("select count(*) from facilitator_links where token_hash = ?1 and redeemed_at is null")?
                .query_row([token_hash], |row| row.get::<_, i64>(0))
        }) > 0
    }

    /// Redeems a facilitator link; true for the first who does.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn redeem_facilitator_link(&self, token: &str) -> Result<bool, WriteError> {
        let token_hash = hash(token.as_bytes());
        self.write(move |work| {
            let redeemed = work
                .connection
                .prepare_cached("update facilitator_links set redeemed_at = ?2 where token_hash = ?1 and redeemed_at is null")?
                .execute(params![token_hash, work.now.as_microsecond()])?;
            Ok(redeemed == 1)
        })
        .await
    }
}

/// Returns the text's SHA-256.
pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Compares without telling by time where the difference is.
pub(crate) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

/// Returns that many random bytes in base64url.
pub(crate) fn random_text(bytes: usize) -> Result<String, WriteError> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|_| WriteError::Closed)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random))
}

/// Letters of codes: none that looks or sounds like another, or spells words.
const CODE_LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";
const CODE_LENGTH: usize = 6;

/// Returns a code for people to type: six capital letters, one of 64 million.
pub(crate) fn random_code() -> Result<String, WriteError> {
    let mut code = String::with_capacity(CODE_LENGTH);
    while code.len() < CODE_LENGTH {
        let mut random = [0; 64];
        getrandom::fill(&mut random).map_err(|_| WriteError::Closed)?;
        // 240 is the largest multiple of 20 letters in a byte: each letter is as likely.
        let fair = random.iter().filter(|byte| **byte < 240);
        code.extend(
            fair.map(|byte| char::from(CODE_LETTERS[usize::from(*byte) % CODE_LETTERS.len()])),
        );
        code.truncate(CODE_LENGTH);
    }
    Ok(code)
}

fn link_token(secret: &[u8; 32], seat: &SeatId, sitting: i64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("link|{seat}|{sitting}").as_bytes());
    // 16 of 32 bytes: 128 bits cannot be guessed, and a shorter link can be typed.
    BASE64_URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..16])
}
