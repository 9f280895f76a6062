//! Limits of a whole seat that the kernel does not keep for us: the memory of all its programs
//! together, and the disk that all seats share. [`watch`] looks every second and starts a seat
//! again that takes too much, which ends whatever took it; files stay. What is too much is
//! decided in `decide.rs`, which is pure; `processes.rs` reads the process table. Neither trusts
//! anything that a seat can write.

mod decide;
mod processes;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arena_supervisor::Child;
use arena_workshop::SeatId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::machine::available_memory;
use crate::seat::Seats;
use decide::{Disk, SeatUse, decide};
use processes::Processes;

/// How often we look.
const EVERY: Duration = Duration::from_secs(1);
/// Memory is added up at least this often …
const MEMORY_EVERY: Duration = Duration::from_secs(10);
/// … and as soon as the machine has less by this share of what a seat may take: whoever takes too
/// much takes that first. Adding up costs a hundredth of a core with a hundred seats.
const MEMORY_SHARE: u64 = 8;
/// How often while the disk is filling up.
const EVERY_WHEN_TIGHT: Duration = Duration::from_millis(250);
/// Seats whose files are measured at the same time.
const MEASURED_AT_ONCE: usize = 4;

/// What a seat may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// Memory of all programs of a seat together. Files that they map do not count.
    pub memory_bytes: u64,
    /// Free space that must stay on the disk of the state folder.
    pub free_bytes: u64,
}

impl Default for WatchLimits {
    /// Returns four times what a person with editor, browser and app was measured to need, and
    /// enough space for the store and the databases to go on.
    fn default() -> WatchLimits {
        WatchLimits {
            memory_bytes: 2 << 30,
            free_bytes: 1 << 30,
        }
    }
}

/// A seat that was started again because it took too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The seat.
    pub seat: SeatId,
    /// What it took.
    pub reason: Excess,
}

/// What a seat took too much of. Its text is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excess {
    /// Memory.
    Memory {
        /// What its programs used together.
        used_bytes: u64,
        /// What a seat may use.
        limit_bytes: u64,
    },
    /// Disk: it grew fastest when space was nearly gone.
    Disk {
        /// How much it grew lately; `None` when it has too many files to be measured.
        grown_bytes: Option<u64>,
        /// What was left.
        free_bytes: u64,
    },
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Excess::Memory {
                used_bytes,
                limit_bytes,
            } => write!(
                f,
                "its programs together used {} of memory, more than the {} of a seat; they were ended and the seat started again",
                Size(*used_bytes),
                Size(*limit_bytes)
            ),
            Excess::Disk {
                grown_bytes: Some(grown),
                free_bytes,
            } => write!(
                f,
                "it wrote {} while this machine has only {} of disk left; its programs were ended and the seat started again",
                Size(*grown),
                Size(*free_bytes)
            ),
            Excess::Disk {
                grown_bytes: None,
                free_bytes,
            } => write!(
                f,
                "it has more files than can be measured while this machine has only {} of disk left; its programs were ended and the seat started again",
                Size(*free_bytes)
            ),
        }
    }
}

/// Seats that are watched over, each with its processes. Clones share them.
#[derive(Clone, Default)]
pub struct Watched {
    /// Never shorter: what is remembered of a seat is found by its place here.
    children: Arc<Mutex<Vec<(SeatId, Child)>>>,
}

impl Watched {
    /// Takes in a seat, or its new processes after it was stopped.
    pub fn set(&self, seat: SeatId, child: Child) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        match children.iter_mut().find(|(id, _)| *id == seat) {
            Some(known) => known.1 = child,
            None => children.push((seat, child)),
        }
    }

    fn now(&self) -> Vec<(SeatId, Child)> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.clone()
    }
}

impl FromIterator<(SeatId, Child)> for Watched {
    fn from_iter<I: IntoIterator<Item = (SeatId, Child)>>(seats: I) -> Self {
        let children = Arc::new(Mutex::new(seats.into_iter().collect()));
        Self { children }
    }
}

/// Watches over seats until `shutdown`. A seat that takes too much is started again; the reason
/// goes to its output, to the log and to `on_stop`, which must not block.
///
/// # Cancellation
/// Nothing remains but a seat that is being started again.
pub async fn watch(
    seats: Arc<Seats>,
    watched: Watched,
    limits: WatchLimits,
    on_stop: impl Fn(Stopped) + Send,
    shutdown: CancellationToken,
) {
    let mut watcher = Watcher {
        disk: Disk::default(),
        processes: Processes::default(),
        asked: BTreeMap::new(),
        added_up: None,
        seats,
        children: Vec::new(),
        limits,
    };
    let mut pause = EVERY;
    loop {
        // Both only wait.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        watcher.children = watched.now();
        for (index, reason) in watcher.look().await {
            let (seat, child) = &watcher.children[index];
            tracing::warn!(seat.id = %seat, "seat {seat} took too much: {reason}");
            child.note(&format!("arena: {reason}"));
            child.restart();
            on_stop(Stopped {
                seat: seat.clone(),
                reason,
            });
        }
        pause = if watcher.disk.is_tight() {
            EVERY_WHEN_TIGHT
        } else {
            EVERY
        };
    }
}

struct Watcher {
    seats: Arc<Seats>,
    children: Vec<(SeatId, Child)>,
    limits: WatchLimits,
    processes: Processes,
    disk: Disk,
    /// Processes of seats that were told to start again: not twice.
    asked: BTreeMap<usize, u32>,
    /// When memory was added up, and what the machine had then.
    added_up: Option<(Instant, u64)>,
}

impl Watcher {
    async fn look(&mut self) -> Vec<(usize, Excess)> {
        let roots = self.roots();
        let memory = if self.is_worth_adding_up() {
            self.memory(&roots).await
        } else {
            BTreeMap::new()
        };
        let free = free_bytes(self.seats.state());
        if self.disk.see(free, &self.limits) {
            let sizes = self.measure(roots.values().copied()).await;
            self.disk.measured(free, sizes);
        }
        let uses: Vec<SeatUse> = roots
            .values()
            .map(|index| SeatUse {
                index: *index,
                memory_bytes: memory.get(index).copied().unwrap_or(0),
                growth: self.disk.growth(*index),
            })
            .collect();
        let stops = decide(&uses, &self.disk, &self.limits);
        for (index, _) in &stops {
            self.disk.forgive(*index);
            self.asked.extend(
                self.children[*index]
                    .1
                    .status()
                    .pid
                    .map(|pid| (*index, pid)),
            );
        }
        stops
    }

    /// The first process of each seat that runs and is not ending.
    fn roots(&mut self) -> BTreeMap<u32, usize> {
        let mut roots = BTreeMap::new();
        for (index, (_, child)) in self.children.iter().enumerate() {
            if let Some(pid) = child.status().pid
                && self.asked.get(&index) != Some(&pid)
            {
                self.asked.remove(&index);
                roots.insert(pid, index);
            }
        }
        roots
    }

    /// Whether somebody may have taken much since memory was added up.
    fn is_worth_adding_up(&mut self) -> bool {
        let available = available_memory().unwrap_or(0);
        let share = self.limits.memory_bytes / MEMORY_SHARE;
        let is_due = self.added_up.is_none_or(|(at, before)| {
            at.elapsed() >= MEMORY_EVERY || available.saturating_add(share) < before
        });
        if is_due {
            self.added_up = Some((Instant::now(), available));
        }
        is_due
    }

    async fn memory(&mut self, roots: &BTreeMap<u32, usize>) -> BTreeMap<usize, u64> {
        let mut processes = std::mem::take(&mut self.processes);
        let (roots, limit) = (roots.clone(), self.limits.memory_bytes);
        let work = tokio::task::spawn_blocking(move || {
            let memory = processes.memory(&roots, limit);
            (processes, memory)
        });
        // Reading the process table does not panic; if it did, we would see it the next second.
        let (processes, memory) = work.await.unwrap_or_default();
        self.processes = processes;
        memory
    }

    async fn measure(&self, indexes: impl Iterator<Item = usize>) -> BTreeMap<usize, Option<u64>> {
        let places = Arc::new(tokio::sync::Semaphore::new(MEASURED_AT_ONCE));
        let mut tasks = JoinSet::new();
        for index in indexes {
            let (seats, places) = (Arc::clone(&self.seats), Arc::clone(&places));
            let seat = self.children[index].0.clone();
            tasks.spawn(async move {
                let _place = places.acquire_owned().await;
                let size = tokio::task::spawn_blocking(move || seats.size(&seat).ok());
                (index, size.await.ok().flatten())
            });
        }
        tasks.join_all().await.into_iter().collect()
    }
}

/// What an ordinary user can still write there; unknown is plenty.
fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |found| {
        found.f_bavail.saturating_mul(found.f_frsize)
    })
}

/// Bytes as people read them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MEBIBYTE: u64 = 1 << 20;
        const GIBIBYTE: u64 = 1 << 30;
        if self.0 < GIBIBYTE {
            return write!(f, "{} MiB", self.0 / MEBIBYTE);
        }
        let tenths = self.0 / (GIBIBYTE / 10);
        write!(f, "{}.{} GiB", tenths / 10, tenths % 10)
    }
}
