//! Who is ahead: the reference's two rules, timed and score. Computed, never stored.

use std::time::Duration;

/// Returns the duration that a text such as `1h 30m`, `25m` or `45s` means.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut seconds: u64 = 0;
    let mut parts = 0;
    for part in text.split_whitespace() {
        let unit = part.chars().last()?;
        let count: u64 = part.strip_suffix(unit)?.parse().ok()?;
        let factor = match unit {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(count.checked_mul(factor)?)?;
        parts += 1;
    }
    (parts > 0).then(|| Duration::from_secs(seconds))
}
