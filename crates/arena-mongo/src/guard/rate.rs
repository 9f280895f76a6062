//! A user's pace: commands beyond it wait their turn, none is refused.

use std::time::Duration;

use tokio::time::Instant;

/// A user who was quiet may do this long's work at once.
const BURST: Duration = Duration::from_secs(1);

/// Says when the next command's turn is.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When all commands so far are due.
    due: Option<Instant>,
}

impl Rate {
    /// Takes one command's turn and returns how long to wait for it.
    pub(super) fn take(&mut self, now: Instant, per_second: u32) -> Option<Duration> {
        let each = Duration::from_secs(1) / per_second.max(1);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let due = self.due.map_or(earliest, |due| due.max(earliest)) + each;
        self.due = Some(due);
        due.checked_duration_since(now)
            .filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_what_follows_waits() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let waits: Vec<_> = (0..15).map(|_| rate.take(start, 10)).collect();
        assert!(waits[..10].iter().all(Option::is_none), "{waits:?}");
        assert_eq!(waits[14], Some(Duration::from_millis(500)));
        let later = start + Duration::from_secs(2);
        assert_eq!(rate.take(later, 10), None);
    }

    #[test]
    fn a_raised_pace_shortens_what_comes_next() {
        let mut rate = Rate::default();
        let start = Instant::now();
        for _ in 0..10 {
            let _ = rate.take(start, 10);
        }
        assert_eq!(rate.take(start, 1000), Some(Duration::from_millis(1)));
    }
}
