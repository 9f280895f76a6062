//! The process table: which processes belong to a seat, and what they use. A process is a seat's
//! when the seat's first process is among its ancestors; orphans in a seat go to the first
//! process of its namespace, so that holds for as long as they live.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

/// Ancestors that we follow upwards.
const GENERATIONS_MAX: usize = 4096;

/// What is known of the process table.
#[derive(Debug, Default)]
pub(super) struct Processes {
    roots: BTreeMap<u32, usize>,
    /// The seat of every process that was looked at; `None`: nobody's.
    owners: HashMap<u32, Option<usize>>,
}

impl Processes {
    /// Returns the memory of each seat: at least what it uses, and exactly that where it could be
    /// above `limit_bytes`.
    pub(super) fn memory(
        &mut self,
        roots: &BTreeMap<u32, usize>,
        limit_bytes: u64,
    ) -> BTreeMap<usize, u64> {
        if self.roots != *roots {
            // A new seat's processes may have been taken for nobody's before we knew it.
            self.owners.clear();
            self.roots.clone_from(roots);
        }
        let mut of_seat: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let alive = process_ids();
        for pid in &alive {
            if let Some(seat) = self.owner(*pid) {
                of_seat.entry(seat).or_default().push(*pid);
            }
        }
        let alive: HashSet<u32> = alive.into_iter().collect();
        self.owners.retain(|pid, _| alive.contains(pid));
        let page = u64::try_from(rustix::param::page_size()).expect("a page is small");
        let memory = of_seat.into_iter().map(|(seat, pids)| {
            let rough = pids
                .iter()
                .filter_map(|pid| resident_pages(*pid))
                .sum::<u64>()
                * page;
            if rough <= limit_bytes {
                return (seat, rough);
            }
            let own = pids.iter().filter_map(|pid| own_bytes(*pid)).sum();
            (seat, own)
        });
        memory.collect()
    }

    fn owner(&mut self, pid: u32) -> Option<usize> {
        let mut path = Vec::new();
        let mut at = pid;
        let owner = loop {
            if let Some(seat) = self.roots.get(&at) {
                break Some(*seat);
            }
            if let Some(known) = self.owners.get(&at) {
                break *known;
            }
            path.push(at);
            match parent(at) {
                // It ended meanwhile: its child has another parent when we look again.
                None => return None,
                Some(0) => break None,
                Some(_) if path.len() > GENERATIONS_MAX => break None,
                Some(parent) => at = parent,
            }
        };
        self.owners.extend(path.into_iter().map(|pid| (pid, owner)));
        owner
    }
}

fn process_ids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parent_in(&stat)
}

/// The name in parentheses is the process's own choice: it may hold anything but what comes after
/// the last parenthesis.
fn parent_in(stat: &[u8]) -> Option<u32> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_ends + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Everything that is in memory for a process, programs' files too. Costs microseconds.
fn resident_pages(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What exists because of this process only: its own pages, shared memory, and what was swapped out.
fn own_bytes(pid: u32) -> Option<u64> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    Some(own_bytes_in(&String::from_utf8_lossy(&text)))
}

fn own_bytes_in(status: &str) -> u64 {
    let counted = status.lines().filter(|line| {
        ["RssAnon:", "RssShmem:", "VmSwap:"]
            .iter()
            .any(|name| line.starts_with(name))
    });
    let kibibytes =
        counted.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    kibibytes.sum::<u64>() << 10
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_cannot_claim_another_parent() {
        assert_eq!(parent_in(b"12 (node) S 7 1 1"), Some(7));
        assert_eq!(parent_in(b"12 (a) S 1 (b) S 7 1 1"), Some(7));
        assert_eq!(parent_in(b"12 (\xff) R 7 1"), Some(7));
        assert_eq!(parent_in(b"garbage"), None);
    }

    #[test]
    fn mapped_files_do_not_count() {
        let status = "Name:\tRssAnon: 9\nRssAnon:\t  100 kB\nRssFile:\t 5000 kB\nRssShmem:\t 20 kB\nVmSwap:\t 3 kB\n";
        assert_eq!(own_bytes_in(status), 123 << 10);
    }

    #[test]
    fn a_child_belongs_to_the_seat_of_its_ancestor() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat starts");
        // Once it has answered, it has loaded everything and waits: its memory stays as it is.
        let input = child.stdin.as_mut().expect("it is piped");
        input.write_all(b"!").expect("cat reads");
        let output = child.stdout.as_mut().expect("it is piped");
        output.read_exact(&mut [0]).expect("cat writes");
        let mut processes = Processes::default();
        let all = processes.memory(&BTreeMap::from([(std::process::id(), 3)]), u64::MAX);
        assert!(all[&3] > 1 << 20, "{all:?}");
        let only = processes.memory(&BTreeMap::from([(child.id(), 4)]), u64::MAX);
        assert!(only[&4] < all[&3] && !only.contains_key(&3), "{only:?}");
        let exact = processes.memory(&BTreeMap::from([(child.id(), 4)]), 0);
        assert!(exact[&4] < only[&4], "{exact:?}");
        child.kill().expect("it is ours");
        child.wait().expect("it was killed");
    }
}
