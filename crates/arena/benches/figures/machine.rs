//! What the kernel says about processes: families, processor time, memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The kernel counts processor time in hundredths of a second towards programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns a process and all that it and its children started and that live.
pub(crate) fn family(of: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in processes() {
        if let Some(parent) = fields(pid).get(1).and_then(|field| field.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (BTreeSet::new(), vec![of]);
    while let Some(pid) = next.pop() {
        if found.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// Returns the processor time of a family so far, with that of its dead members, in seconds.
pub(crate) fn family_seconds(of: u32) -> f64 {
    family(of)
        .into_iter()
        .map(|pid| ticks(pid, 11..15))
        .sum::<f64>()
        / TICKS_PER_SECOND
}

/// Returns the processor time of one process so far, in seconds.
pub(crate) fn own_seconds(pid: u32) -> f64 {
    ticks(pid, 11..13) / TICKS_PER_SECOND
}

/// Returns a line of `smaps_rollup`, such as `Pss` or `Rss`, in megabytes; zero for one that is gone.
pub(crate) fn megabytes(pid: u32, line: &str) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kilobytes = rollup
        .lines()
        .filter_map(|text| text.strip_prefix(line)?.strip_prefix(':'))
        .filter_map(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.sum::<f64>() / 1024.0
}

/// Returns the agents among the children of a platform process.
pub(crate) fn agents(platform: u32) -> Vec<u32> {
    let is_agent = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.starts_with("/opt/arena/bin/arena\0serve\0seat"))
    };
    family(platform).into_iter().filter(is_agent).collect()
}

/// Returns what the kernel says the load is: of 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect()
}

/// Fields of `stat` after the name: 0 is the state, 1 the parent, 11 to 14 are times.
fn fields(pid: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    rest.split(' ').map(str::to_owned).collect()
}

fn ticks(pid: u32, range: std::ops::Range<usize>) -> f64 {
    let fields = fields(pid);
    let times = fields.get(range).unwrap_or_default();
    times
        .iter()
        .filter_map(|time| time.parse::<f64>().ok())
        .sum()
}
