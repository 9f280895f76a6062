//! Which seats take too much: numbers in, seats out. The disk is measured only when space is
//! getting short, because that costs time: [`Disk`] remembers what was seen and says when.

use std::collections::BTreeMap;

use super::{Excess, WatchLimits};

/// Growth below this is nobody's fault, and a fall below this needs no new measurement.
const STEP_BYTES: u64 = 16 << 20;
/// When free space would reach the floor within so many looks, it is tight.
const LOOKS_AHEAD: u64 = 5;

/// What a seat uses at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeatUse {
    pub(super) index: usize,
    pub(super) memory_bytes: u64,
    pub(super) growth: Growth,
}

/// How a seat's files have grown since space became tight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// Not measured, or only once.
    Unknown,
    /// By so much.
    Bytes(u64),
    /// It cannot be measured: too many files, or too deep.
    TooMany,
}

/// The disk as it was seen so far.
#[derive(Debug, Default)]
pub(super) struct Disk {
    free_bytes: Option<u64>,
    /// How much was lost between the last two looks.
    fall_bytes: u64,
    is_tight: bool,
    /// Free space at the last measurement.
    measured_at: Option<u64>,
    first: BTreeMap<usize, u64>,
    growth: BTreeMap<usize, Growth>,
}

impl Disk {
    /// Takes in what is free now; returns whether the seats shall be measured.
    pub(super) fn see(&mut self, free_bytes: u64, limits: &WatchLimits) -> bool {
        let before = self.free_bytes.replace(free_bytes).unwrap_or(free_bytes);
        self.fall_bytes = before.saturating_sub(free_bytes);
        let ahead = free_bytes.saturating_sub(self.fall_bytes.saturating_mul(LOOKS_AHEAD));
        self.is_tight = free_bytes / 2 < limits.free_bytes || ahead < limits.free_bytes;
        if !self.is_tight {
            self.measured_at = None;
            self.first.clear();
            self.growth.clear();
        }
        let fell = |at: u64| free_bytes.saturating_add(STEP_BYTES) <= at;
        self.is_tight && self.measured_at.is_none_or(fell)
    }

    /// Takes in the sizes of seats; `None`: it cannot be measured.
    pub(super) fn measured(&mut self, free_bytes: u64, sizes: BTreeMap<usize, Option<u64>>) {
        self.measured_at = Some(free_bytes);
        for (index, size) in sizes {
            let growth = match (size, self.first.get(&index)) {
                (None, _) => Growth::TooMany,
                (Some(size), Some(first)) => Growth::Bytes(size.saturating_sub(*first)),
                (Some(size), None) => {
                    self.first.insert(index, size);
                    Growth::Unknown
                }
            };
            self.growth.insert(index, growth);
        }
    }

    /// Forgets how a seat grew, once it was stopped for that.
    pub(super) fn forgive(&mut self, index: usize) {
        self.first.remove(&index);
        self.growth.remove(&index);
    }

    pub(super) fn growth(&self, index: usize) -> Growth {
        self.growth.get(&index).copied().unwrap_or(Growth::Unknown)
    }

    pub(super) fn is_tight(&self) -> bool {
        self.is_tight
    }

    /// Returns what is free when that is so little that somebody must stop.
    fn nearly_full(&self, limits: &WatchLimits) -> Option<u64> {
        let headroom = (limits.free_bytes / 4).max(self.fall_bytes.saturating_mul(2));
        self.free_bytes
            .filter(|free| *free < limits.free_bytes.saturating_add(headroom))
    }
}

/// Returns the seats to stop: all that use too much memory, and when the disk is nearly full the
/// one that grew most.
pub(super) fn decide(uses: &[SeatUse], disk: &Disk, limits: &WatchLimits) -> Vec<(usize, Excess)> {
    let over = uses
        .iter()
        .filter(|seat| seat.memory_bytes > limits.memory_bytes)
        .map(|seat| {
            let excess = Excess::Memory {
                used_bytes: seat.memory_bytes,
                limit_bytes: limits.memory_bytes,
            };
            (seat.index, excess)
        });
    let mut stops: Vec<(usize, Excess)> = over.collect();
    let grower = disk
        .nearly_full(limits)
        .and_then(|free| fastest(uses, free));
    stops.extend(grower.filter(|(index, _)| stops.iter().all(|(stopped, _)| stopped != index)));
    stops
}

fn fastest(uses: &[SeatUse], free_bytes: u64) -> Option<(usize, Excess)> {
    let excess = |index, grown_bytes| {
        let excess = Excess::Disk {
            grown_bytes,
            free_bytes,
        };
        (index, excess)
    };
    let growers = uses.iter().filter_map(|seat| match seat.growth {
        Growth::Bytes(grown) if grown >= STEP_BYTES => Some((grown, seat.index)),
        _ => None,
    });
    // Who hides behind too many files is suspected after those whose growth is seen.
    let hidden = uses.iter().find(|seat| seat.growth == Growth::TooMany);
    growers
        .max()
        .map(|(grown, index)| excess(index, Some(grown)))
        .or_else(|| hidden.map(|seat| excess(seat.index, None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;
    const LIMITS: WatchLimits = WatchLimits {
        memory_bytes: 2000 * M,
        free_bytes: 1000 * M,
    };

    fn uses(memory: &[u64], disk: &Disk) -> Vec<SeatUse> {
        let uses = memory.iter().enumerate().map(|(index, memory)| SeatUse {
            index,
            memory_bytes: memory * M,
            growth: disk.growth(index),
        });
        uses.collect()
    }

    #[test]
    fn seats_above_their_share_of_memory_are_stopped() {
        for (memory, stopped) in [
            (&[0, 0][..], &[][..]),
            (&[2000, 1999], &[]),
            (&[2001, 100], &[0]),
            (&[5000, 5000], &[0, 1]),
        ] {
            let stops = decide(&uses(memory, &Disk::default()), &Disk::default(), &LIMITS);
            let indexes: Vec<usize> = stops.iter().map(|(index, _)| *index).collect();
            assert_eq!(indexes, stopped, "{memory:?}");
        }
    }

    /// What is free at each look with the sizes of two seats, and who is stopped in the end.
    #[test]
    fn the_fastest_grower_is_stopped_before_the_floor() {
        type Looks = &'static [(u64, [Option<u64>; 2])];
        const ANY: Option<u64> = Some(0);
        let cases: [(&str, Looks, Option<usize>); 7] = [
            ("plenty", &[(9000, [ANY; 2]), (8000, [ANY; 2])], None),
            (
                "a filler",
                &[
                    (1200, [Some(10), Some(700)]),
                    (1100, [Some(110), Some(700)]),
                ],
                Some(0),
            ),
            (
                "the larger seat is not the faster",
                &[
                    (1300, [Some(10), Some(900)]),
                    (1100, [Some(150), Some(960)]),
                ],
                Some(0),
            ),
            (
                "a neighbour of the machine fills it",
                &[(1200, [Some(10), Some(10)]), (900, [Some(10), Some(10)])],
                None,
            ),
            (
                "tight for a long time, and nobody grows",
                &[(900, [Some(10), Some(10)]), (900, [Some(800), Some(10)])],
                None,
            ),
            (
                "far from the floor still, but not for long",
                &[
                    (9000, [ANY; 2]),
                    (4000, [Some(5), Some(9000)]),
                    (2000, [Some(5), Some(11000)]),
                ],
                Some(1),
            ),
            (
                "files without number",
                &[(1200, [Some(10), None]), (1100, [Some(10), None])],
                Some(1),
            ),
        ];
        for (name, looks, stopped) in cases {
            let mut disk = Disk::default();
            for (free, sizes) in looks {
                if disk.see(free * M, &LIMITS) {
                    let sizes = sizes.iter().map(|size| size.map(|size| size * M));
                    disk.measured(free * M, sizes.enumerate().collect());
                }
            }
            let stops = decide(&uses(&[0, 0], &disk), &disk, &LIMITS);
            assert_eq!(stops.first().map(|(index, _)| *index), stopped, "{name}");
        }
    }

    #[test]
    fn an_unchanged_disk_is_measured_once() {
        let mut disk = Disk::default();
        assert!(!disk.see(5000 * M, &LIMITS));
        assert!(disk.see(1500 * M, &LIMITS));
        disk.measured(1500 * M, BTreeMap::new());
        assert!(!disk.see(1495 * M, &LIMITS), "it hardly moved");
        assert!(disk.see(1400 * M, &LIMITS), "it fell");
        disk.measured(1400 * M, BTreeMap::from([(0, Some(5))]));
        assert!(!disk.see(5000 * M, &LIMITS));
        assert_eq!(disk.growth(0), Growth::Unknown, "forgotten");
    }

    #[test]
    fn a_seat_is_stopped_once_for_the_same_growth() {
        let mut disk = Disk::default();
        for (free, size) in [(1200, 10), (1100, 110)] {
            assert!(disk.see(free * M, &LIMITS));
            disk.measured(free * M, BTreeMap::from([(0, Some(size * M))]));
        }
        assert_eq!(decide(&uses(&[0], &disk), &disk, &LIMITS).len(), 1);
        disk.forgive(0);
        assert!(!disk.see(1100 * M, &LIMITS));
        assert_eq!(decide(&uses(&[0], &disk), &disk, &LIMITS), []);
    }
}
