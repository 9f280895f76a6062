//! Sees when a watched file is saved, in place or by a rename, and when the
//! workshop's app writes its signal file. It waits in inotify; where that is not
//! to be had (another seat may have used up the machine's share) it compares
//! modification times twice a second, and says so in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arena_workshop::plan::SeatSettings;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::agent::Agent;
use crate::health::AgentEvent;

/// The reference's apps write this file when they have restarted.
const SIGNAL_FILE: &str = "server_restart_signal.txt";
/// Writes of one save come together within this time.
const SETTLE: Duration = Duration::from_millis(20);
/// Events are told at most this often, however often files are written.
const PAUSE: Duration = Duration::from_millis(100);
/// Without inotify.
const POLL: Duration = Duration::from_millis(500);

/// Files to watch, and what each means.
type Watched = BTreeMap<PathBuf, AgentEvent>;

/// Tells of saves until shutdown.
pub(crate) async fn run(agent: Arc<Agent>) -> &'static str {
    let watched = watched(&agent.settings);
    let outcome = tokio::select! {
        () = agent.shutdown.cancelled() => return "file watcher",
        outcome = notified(&agent, &watched) => outcome,
    };
    if let Err(error) = outcome {
        tracing::warn!(seat.id = %agent.settings.seat, error = %error, "cannot wait for saved files; looking twice a second instead");
    }
    // Nothing is lost: a look compares with the one before.
    tokio::select! {
        () = agent.shutdown.cancelled() => {}
        () = polled(&agent, &watched) => {}
    }
    "file watcher"
}

fn watched(settings: &SeatSettings) -> Watched {
    let work = Path::new(&settings.work);
    let saved = |path: &String| (work.join(path), AgentEvent::Saved { path: path.clone() });
    let mut watched: Watched = settings.watched.iter().map(saved).collect();
    let folder = match settings.environment.get("SIGNAL_FILE_PATH") {
        Some(path) => work.join(path),
        None => work.join("server/signal"),
    };
    // The variable names the folder in some workshops and the file in others.
    let file = if folder.extension().is_some() {
        folder
    } else {
        folder.join(SIGNAL_FILE)
    };
    watched.insert(file, AgentEvent::Signal);
    watched
}

fn tell(agent: &Agent, events: impl IntoIterator<Item = AgentEvent>) {
    for event in events {
        if matches!(event, AgentEvent::Saved { .. }) {
            agent.apps.iter().for_each(crate::apps::App::saved);
        }
        agent.tell(event);
    }
}

/// Waits in inotify; returns only with an error.
async fn notified(agent: &Agent, watched: &Watched) -> io::Result<()> {
    let mut watches = Watches::new()?;
    watches.arm(watched)?;
    loop {
        let mut ready = watches.inotify.readable().await?;
        ready.clear_ready();
        drop(ready);
        tokio::time::sleep(SETTLE).await;
        let mut changed = BTreeSet::new();
        watches.read(watched, &mut changed)?;
        let events = changed.iter().filter_map(|path| watched.get(path).cloned());
        tell(agent, events);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Folders under watch. Editors replace files, so we watch folders, never files; a folder that is
/// not there yet is waited for in its nearest ancestor.
struct Watches {
    inotify: AsyncFd<OwnedFd>,
    folders: BTreeMap<i32, PathBuf>,
}

impl Watches {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that break the rules of ownership; OwnedFd keeps them"
    )]
    fn new() -> io::Result<Watches> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Watches {
            inotify: AsyncFd::with_interest(inotify, tokio::io::Interest::READABLE)?,
            folders: BTreeMap::new(),
        })
    }

    fn arm(&mut self, watched: &Watched) -> io::Result<()> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::CREATE
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for folder in watched.keys().filter_map(|path| path.parent()) {
            for ancestor in folder.ancestors() {
                match inotify::add_watch(self.inotify.get_ref(), ancestor, flags) {
                    Ok(number) => {
                        self.folders.insert(number, ancestor.to_owned());
                        break;
                    }
                    Err(
                        rustix::io::Errno::NOENT
                        | rustix::io::Errno::NOTDIR
                        | rustix::io::Errno::ACCESS,
                    ) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Reads all events there are and collects the watched files among them.
    fn read(&mut self, watched: &Watched, changed: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut rearm = false;
        let mut gone = Vec::new();
        let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            let kind = event.events();
            if kind.contains(ReadFlags::QUEUE_OVERFLOW) {
                // We do not know which: all of them may have been saved.
                changed.extend(watched.keys().cloned());
                continue;
            }
            if kind.intersects(ReadFlags::IGNORED | ReadFlags::MOVE_SELF) {
                gone.push(event.wd());
            }
            let Some(folder) = self.folders.get(&event.wd()) else {
                continue;
            };
            let name = event
                .file_name()
                .map(|name| OsString::from(std::ffi::OsStr::from_bytes(name.to_bytes())));
            let path = folder.join(name.unwrap_or_default());
            let written = kind.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO);
            if written && watched.contains_key(&path) {
                changed.insert(path);
            } else if kind.contains(ReadFlags::ISDIR) {
                // A missing folder may have appeared; its files count as saved.
                rearm = true;
                changed.extend(
                    watched
                        .keys()
                        .filter(|file| file.starts_with(&path) && file.is_file())
                        .cloned(),
                );
            }
        }
        for number in &gone {
            self.folders.remove(number);
        }
        if rearm || !gone.is_empty() {
            self.arm(watched)
        } else {
            Ok(())
        }
    }
}

/// Compares modification times, for ever.
async fn polled(agent: &Agent, watched: &Watched) {
    let look = || -> BTreeMap<&PathBuf, SystemTime> {
        let modified = |path: &PathBuf| {
            path.symlink_metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
        };
        watched
            .keys()
            .filter_map(|path| Some((path, modified(path)?)))
            .collect()
    };
    let mut before = look();
    loop {
        tokio::time::sleep(POLL).await;
        let now = look();
        let changed = now
            .iter()
            .filter(|(path, time)| before.get(*path) != Some(time));
        tell(
            agent,
            changed
                .filter_map(|(path, _)| watched.get(*path).cloned())
                .collect::<Vec<_>>(),
        );
        before = now;
    }
}
