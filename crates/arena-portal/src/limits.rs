//! How often one address may guess the event's code. Only wrong guesses cost:
//! a room of 200 behind one address types it right at once, and personal links
//! are not limited at all. At one guess a second, four hours find one of the
//! 64 million codes with a chance of 1 in 4,400.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong guesses of one address at once.
const GUESSES_AT_ONCE: u32 = 100;
/// Time after which one more guess is free.
const GUESS_EVERY: Duration = Duration::from_secs(1);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// Wrong guesses by address.
#[derive(Default)]
pub(crate) struct Guesses {
    by_address: Mutex<HashMap<String, (u32, Instant)>>,
}

impl Guesses {
    /// Returns how long the address must wait before it may guess; `None`: not at all.
    pub(crate) fn wait(&self, address: &str, now: Instant) -> Option<Duration> {
        let guesses = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (spent, since) = *guesses.get(address)?;
        let refilled = now.saturating_duration_since(since).as_secs() / GUESS_EVERY.as_secs();
        (u64::from(spent) >= u64::from(GUESSES_AT_ONCE) + refilled).then_some(GUESS_EVERY)
    }

    /// Counts a wrong guess.
    pub(crate) fn count(&self, address: &str, now: Instant) {
        let mut guesses = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if guesses.len() >= ADDRESSES_MAX {
            let full = GUESS_EVERY * GUESSES_AT_ONCE;
            guesses.retain(|_, (_, since)| now.saturating_duration_since(*since) < full);
        }
        let (spent, since) = guesses.entry(address.to_owned()).or_insert((0, now));
        let refilled =
            u32::try_from(now.saturating_duration_since(*since).as_secs()).unwrap_or(u32::MAX);
        *spent = spent.saturating_sub(refilled).saturating_add(1);
        *since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_is_slow_for_one_address_and_free_for_the_others() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for _ in 0..GUESSES_AT_ONCE {
            assert_eq!(guesses.wait("a", now), None);
            guesses.count("a", now);
        }
        assert!(guesses.wait("a", now).is_some());
        assert_eq!(guesses.wait("b", now), None);
        let later = now + Duration::from_secs(2);
        assert_eq!(guesses.wait("a", later), None);
        guesses.count("a", later);
        guesses.count("a", later);
        assert!(guesses.wait("a", later).is_some());
    }
}
