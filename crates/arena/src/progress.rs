//! One line for each thing that is being done: what, how far, how long. On a
//! terminal the line moves; elsewhere only finished lines are printed, a
//! line when something slow begins, and one for each tenth of what is counted. Progress goes to standard error.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::failure::{Paint, paint};

/// Below this a finished thing's time is not worth saying.
const WORTH_SAYING: Duration = Duration::from_millis(50);

/// All lines of a command.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    lines: MultiProgress,
    is_terminal: bool,
}

/// One thing being done.
#[derive(Debug)]
pub(crate) struct Line {
    name: String,
    bar: ProgressBar,
    is_terminal: bool,
    begun: Instant,
    last: Mutex<String>,
    /// Tenths of a whole that have been said.
    tenths: AtomicUsize,
}

impl Progress {
    /// Returns progress on standard error.
    pub(crate) fn new() -> Self {
        Self {
            lines: MultiProgress::new(),
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Begins a thing, such as `template`.
    pub(crate) fn begin(&self, name: &str) -> Line {
        let bar = if self.is_terminal {
            self.lines.add(ProgressBar::new_spinner())
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{spinner} {prefix:<14} {wide_msg} {elapsed}")
            .expect("the template is valid");
        bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Line {
            name: name.to_owned(),
            bar,
            is_terminal: self.is_terminal,
            begun: Instant::now(),
            last: Mutex::default(),
            tenths: AtomicUsize::new(0),
        }
    }
}

impl Line {
    /// Says how far it is. Repeating a text prints nothing.
    pub(crate) fn update(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        if !self.is_terminal {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if *last != text {
                eprintln!("  {:<14} {text}", self.name);
                text.clone_into(&mut last);
            }
        }
    }

    /// Says how far it is without printing a line where nothing moves (bytes, counts).
    pub(crate) fn tick(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// Says how many are done of how many, such as `7 of 20 databases`; elsewhere than on a terminal, a
    /// line for each tenth.
    pub(crate) fn count(&self, done: usize, all: usize, what: &str) {
        let text = format!("{done} of {all} {what}");
        let tenths = done * 10 / all.max(1);
        if self.tenths.fetch_max(tenths, Ordering::Relaxed) < tenths {
            self.update(&text);
        } else {
            self.tick(&text);
        }
    }

    /// Says bytes done of bytes to do, with the time left.
    pub(crate) fn bytes(&self, what: &str, done: u64, total: u64) {
        let elapsed = self.begun.elapsed().as_secs_f64();
        let share = if total == 0 {
            0.0
        } else {
            precise(done) / precise(total)
        };
        let left = if share > 0.02 {
            format!(", {} left", seconds(elapsed / share - elapsed))
        } else {
            String::new()
        };
        self.tick(&format!("{what} {} of {}{left}", size(done), size(total)));
    }

    /// Ends it well.
    pub(crate) fn done(self, text: &str) {
        self.end(&paint("✓", Paint::Green), text);
    }

    /// Ends it badly; the reason is reported elsewhere.
    pub(crate) fn failed(self, text: &str) {
        self.end(&paint("✗", Paint::Red), text);
    }

    fn end(self, mark: &str, text: &str) {
        let took = self.begun.elapsed();
        let time = if took < WORTH_SAYING {
            String::new()
        } else {
            paint(&format!(" ({})", seconds(took.as_secs_f64())), Paint::Dim)
        };
        let line = format!("{mark} {:<14} {text}{time}", self.name);
        if self.is_terminal {
            self.bar.suspend(|| eprintln!("{line}"));
        } else {
            eprintln!("{line}");
        }
        self.bar.finish_and_clear();
    }
}

/// Returns a size as people read it, such as `44 MB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", precise(bytes) / 1e9),
    }
}

/// Returns a time as people read it: `4.2 s`, `3 min 5 s`.
fn seconds(seconds: f64) -> String {
    // What would print as 60.0 s is a minute already.
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round();
    format!("{:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0)
}

/// Sizes below 2^52 bytes are exact as `f64`.
fn precise(bytes: u64) -> f64 {
    let high = u32::try_from(bytes >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(bytes & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_never_shows_sixty_seconds() {
        assert_eq!(seconds(59.94), "59.9 s");
        assert_eq!(seconds(59.96), "1 min 0 s");
        assert_eq!(seconds(239.7), "4 min 0 s");
        assert_eq!(seconds(185.2), "3 min 5 s");
    }
}
