//! A child's output, line by line: a tail in memory, a rotated file, a live
//! feed. A flood is slowed down rather than dropped: beyond a fixed rate we
//! stop reading, the pipe fills, and the child waits. File writes are small
//! and go to the page cache, so they are done in place.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::unix::pipe::Receiver;
use tokio::sync::broadcast;

/// Longer lines are cut into pieces of this length.
const LINE_BYTES: usize = 8 * 1024;
/// Memory for the tail of one child.
const TAIL_BYTES: usize = 64 * 1024;
/// Lines that a slow follower may lag behind before it misses some.
const FEED_LINES: usize = 256;
/// Bytes of output taken from one stream in each [`WINDOW`]: 4 MiB/s.
const WINDOW_BYTES: usize = 1024 * 1024;
const WINDOW: Duration = Duration::from_millis(250);

/// A file for output, rotated by size: `x.log`, then `x.log.1` (younger) to `x.log.{files - 1}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The file written to. Its folder must exist; nobody hostile may write there.
    pub path: PathBuf,
    /// Size at which it is rotated.
    pub size_bytes: u64,
    /// Number of files, the current one included.
    pub files: u32,
}

impl LogFile {
    /// Returns a log of at most two files of 4 MiB.
    pub fn new(path: impl Into<PathBuf>) -> LogFile {
        LogFile {
            path: path.into(),
            size_bytes: 4 * 1024 * 1024,
            files: 2,
        }
    }
}

/// Kept lines, then live ones.
pub struct Follow {
    kept: VecDeque<Arc<str>>,
    feed: broadcast::Receiver<Arc<str>>,
}

impl Follow {
    /// Returns the next line, or `None` when the child is gone for good. A reader that is too
    /// slow gets a line that says how many it missed.
    ///
    /// # Cancellation
    /// Loses nothing.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        if let Some(line) = self.kept.pop_front() {
            return Some(line);
        }
        match self.feed.recv().await {
            Ok(line) => Some(line),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                Some(format!("… {missed} lines left out").into())
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Where the lines of one child go.
pub(crate) struct Output {
    sinks: Mutex<Sinks>,
}

struct Sinks {
    tail: VecDeque<Arc<str>>,
    tail_bytes: usize,
    tail_lines: usize,
    /// Made with the first follower, so that quiet children cost nothing.
    feed: Option<broadcast::Sender<Arc<str>>>,
    log: Option<OpenLog>,
}

impl Output {
    pub(crate) fn new(log: Option<LogFile>, tail_lines: usize) -> Output {
        let log = log.map(|settings| OpenLog {
            settings,
            file: None,
            size_bytes: 0,
            broken: false,
        });
        Output {
            sinks: Mutex::new(Sinks {
                tail: VecDeque::new(),
                tail_bytes: 0,
                tail_lines,
                feed: None,
                log,
            }),
        }
    }

    pub(crate) fn line(&self, line: &str) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = &mut sinks.log {
            log.line(line);
        }
        sinks.keep(Arc::from(line));
    }

    pub(crate) fn tail(&self, lines: usize) -> Vec<Arc<str>> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = sinks.tail.len().saturating_sub(lines);
        sinks.tail.iter().skip(skip).cloned().collect()
    }

    pub(crate) fn follow(&self) -> Follow {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = sinks
            .feed
            .get_or_insert_with(|| broadcast::Sender::new(FEED_LINES))
            .subscribe();
        Follow {
            kept: sinks.tail.clone(),
            feed,
        }
    }

    /// Follows new lines only.
    pub(crate) fn follow_new(&self) -> Follow {
        Follow {
            kept: VecDeque::new(),
            ..self.follow()
        }
    }

    /// Ends all followers.
    pub(crate) fn close(&self) {
        self.sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .feed = None;
    }

    /// Reads both streams until both end.
    pub(crate) async fn pump(&self, stdout: Receiver, stderr: Receiver) {
        tokio::join!(self.pump_stream(stdout), self.pump_stream(stderr));
    }

    async fn pump_stream(&self, stream: Receiver) {
        let mut pending: Vec<u8> = Vec::new();
        let mut window = (Instant::now(), 0_usize);
        while let Ok(true) = self.take(&stream, &mut pending, &mut window).await {
            if window.1 >= WINDOW_BYTES {
                tokio::time::sleep(WINDOW.saturating_sub(window.0.elapsed())).await;
            }
        }
        if !pending.is_empty() {
            self.bytes(&pending);
        }
    }

    /// Takes what the stream has now. False at its end.
    async fn take(
        &self,
        stream: &Receiver,
        pending: &mut Vec<u8>,
        window: &mut (Instant, usize),
    ) -> io::Result<bool> {
        stream.readable().await?;
        let mut buffer = [0_u8; 4096];
        let count = match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        if window.0.elapsed() >= WINDOW {
            *window = (Instant::now(), 0);
        }
        window.1 += count;
        pending.extend_from_slice(&buffer[..count]);
        let mut start = 0;
        while let Some(length) = pending[start..].iter().position(|byte| *byte == b'\n') {
            self.bytes(&pending[start..start + length]);
            start += length + 1;
        }
        pending.drain(..start);
        while pending.len() > LINE_BYTES {
            self.bytes(&pending[..LINE_BYTES]);
            pending.drain(..LINE_BYTES);
        }
        Ok(true)
    }

    fn bytes(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.line(&String::from_utf8_lossy(line));
    }
}

impl Sinks {
    fn keep(&mut self, line: Arc<str>) {
        if let Some(feed) = &self.feed {
            // No follower at the moment is fine.
            let _ = feed.send(line.clone());
        }
        self.tail_bytes += line.len();
        self.tail.push_back(line);
        while self.tail.len() > self.tail_lines || self.tail_bytes > TAIL_BYTES {
            let Some(oldest) = self.tail.pop_front() else {
                break;
            };
            self.tail_bytes -= oldest.len();
        }
    }
}

/// A log file while it is written.
struct OpenLog {
    settings: LogFile,
    file: Option<File>,
    size_bytes: u64,
    /// The last write failed; said once, tried again with every line.
    broken: bool,
}

impl OpenLog {
    fn line(&mut self, line: &str) {
        let outcome = self.try_line(line);
        if let Err(error) = &outcome
            && !self.broken
        {
            let path = self.settings.path.display().to_string();
            tracing::warn!(log.path = path, error = %error, "cannot write the log {path}; going on without");
        }
        self.broken = outcome.is_err();
    }

    fn try_line(&mut self, line: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.file.is_none() {
            self.open()?;
        }
        if self.size_bytes > 0 && self.size_bytes.saturating_add(length) > self.settings.size_bytes
        {
            self.rotate()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(&bytes)?;
            self.size_bytes += length;
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.settings.path)?;
        self.size_bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for number in (1..self.settings.files).rev() {
            let from = self.numbered(number - 1);
            match std::fs::rename(&from, self.numbered(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.settings.files <= 1 {
            std::fs::remove_file(&self.settings.path)?;
        }
        self.open()
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.settings.path.clone();
        }
        let mut name = self.settings.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}
