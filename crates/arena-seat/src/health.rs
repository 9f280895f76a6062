//! What the agent tells about its seat, as JSON. The readers (control, portal)
//! use these types too, and must not trust the values: the agent runs in the seat.

use arena_workshop::plan::AppKind;
use serde::{Deserialize, Serialize};

/// The whole health of a seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHealth {
    /// Which run of the seat it is: when the agent began, in milliseconds since 1970.
    #[serde(default)]
    pub run: u64,
    /// The editor.
    pub editor: EditorHealth,
    /// The apps that run, in the order of the settings; static front ends are not among them.
    pub apps: Vec<AppHealth>,
    /// Memory of all the seat's processes, without what they share.
    pub memory_bytes: u64,
}

/// The editor's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditorHealth {
    /// How it is doing.
    pub state: EditorPhase,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Open WebSockets: two or three per browser window.
    pub connections: usize,
}

/// How the editor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditorPhase {
    /// Not running.
    Stopped,
    /// Running, does not answer yet.
    Starting,
    /// Answers.
    Ready,
    /// Given up; wake it again to retry.
    Failed,
}

/// An app's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppHealth {
    /// Which app.
    pub kind: AppKind,
    /// How it is doing.
    pub state: AppPhase,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How often it came up again, by itself (`node --watch`) or by the agent.
    pub restarts: u32,
}

/// How an app is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppPhase {
    /// Not started yet: the editor or the first request starts it.
    Asleep,
    /// Started; its port is not open yet, or not open again.
    Starting,
    /// Its port is open.
    Ready,
    /// Ended for good, or runs without listening. Saving a file or a restart tries again.
    Failed,
    /// Stopped with the seat.
    Stopped,
}

/// A line of `GET /events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentEvent {
    /// The whole health: first, and after every change.
    Health(AgentHealth),
    /// A watched file was saved.
    Saved {
        /// Its path inside the work folder, as in the settings.
        path: String,
    },
    /// The workshop's app wrote its signal file.
    Signal,
    /// Nothing happened; sent every 15 seconds.
    Beat,
}

impl AgentEvent {
    /// Returns the event as one line with its end.
    pub(crate) fn line(&self) -> bytes::Bytes {
        let mut line = serde_json::to_vec(self).expect("plain values are always JSON");
        line.push(b'\n');
        line.into()
    }
}

/// Sums up the memory of all processes that this one sees (in a seat: the seat's), without the
/// pages that they share. `statm` is cheap; exact proportional sizes cost milliseconds each.
pub(crate) fn memory_bytes() -> u64 {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let processes = entries.flatten().filter(|entry| {
        entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit)
    });
    let pages = processes.map(|entry| {
        let statm = std::fs::read_to_string(entry.path().join("statm")).unwrap_or_default();
        let mut numbers = statm
            .split(' ')
            .skip(1)
            .map(|number| number.parse::<u64>().unwrap_or(0));
        let resident = numbers.next().unwrap_or(0);
        resident.saturating_sub(numbers.next().unwrap_or(0))
    });
    pages.sum::<u64>().saturating_mul(page)
}
