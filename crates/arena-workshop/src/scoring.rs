//! Who is ahead: the reference's two rules, timed and score. Computed, never
//! stored. Begin at [`Leaderboard::rank`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ExerciseSlug, SeatId};

/// Points of the first who solves an exercise.
const POINTS_FIRST: u32 = 100;
/// How much less each later one gets.
const POINTS_STEP: u32 = 5;
/// What the eleventh and everyone after gets.
const POINTS_LEAST: u32 = 50;
/// How many get more than the least.
const LEADERS: usize = 10;

/// How participants are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scoring {
    /// Most exercises, then least time between first and last result.
    #[default]
    Timed,
    /// Points by order of solving: 100, 95, 90 … 50.
    Score,
}

impl Scoring {
    /// Returns the name as it is written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timed => "timed",
            Self::Score => "score",
        }
    }
}

/// A seat's first pass of an exercise. A second one of the same seat and exercise is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solved {
    /// Who.
    pub seat: SeatId,
    /// What.
    pub exercise: ExerciseSlug,
    /// When.
    pub at: Timestamp,
}

/// What does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Results after this instant do not count; one at the instant does.
    pub close_on: Option<Timestamp>,
    /// Seats that are left out. They take no points from others either.
    pub excluded: BTreeSet<SeatId>,
    /// Exercises taken off the board.
    pub void: BTreeSet<ExerciseSlug>,
}

/// The ranking, best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaderboard {
    /// By which rule.
    pub scoring: Scoring,
    /// Seats with at least one result that counts.
    pub rows: Vec<Row>,
}

/// A seat on the leaderboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Place from 1. Equal seats share a place, and the next one is left out (1, 2, 2, 4).
    pub rank: u32,
    /// Who.
    pub seat: SeatId,
    /// How many exercises.
    pub solved: u32,
    /// Points; 0 in the timed ranking.
    pub points: u32,
    /// First result.
    pub first: Timestamp,
    /// Last result.
    pub last: Timestamp,
}

impl Row {
    /// Returns the time between first and last result.
    pub fn duration(&self) -> Duration {
        Duration::try_from(self.last.duration_since(self.first)).unwrap_or_default()
    }
}

impl Leaderboard {
    /// Ranks seats. Timed: more exercises, then less time between first and last result. Score:
    /// more points. Seats equal in that share a rank and stand in order of their last result, then
    /// of their id, so that the order never depends on the order of `results`.
    pub fn rank(scoring: Scoring, results: &[Solved], rules: &Rules) -> Self {
        let mut rows = totals(scoring, &counted(results, rules));
        let merit = |row: &Row| match scoring {
            Scoring::Timed => (Reverse(row.solved), row.duration()),
            Scoring::Score => (Reverse(row.points), Duration::ZERO),
        };
        rows.sort_unstable_by(|one, other| {
            let by_merit = merit(one).cmp(&merit(other));
            by_merit
                .then_with(|| one.last.cmp(&other.last))
                .then_with(|| one.seat.cmp(&other.seat))
        });
        for index in 0..rows.len() {
            let is_tied = index > 0 && merit(&rows[index - 1]) == merit(&rows[index]);
            rows[index].rank = if is_tied {
                rows[index - 1].rank
            } else {
                u32::try_from(index + 1).unwrap_or(u32::MAX)
            };
        }
        Self { scoring, rows }
    }
}

/// Results that count, as numbers: seats and exercises by their index, since ten thousand seats are
/// ranked anew with every result.
struct Counted<'a> {
    seats: Vec<&'a SeatId>,
    /// For each exercise, the first result of each seat (by index), as far as it has one.
    firsts: Vec<Vec<Option<Timestamp>>>,
}

fn counted<'a>(results: &'a [Solved], rules: &Rules) -> Counted<'a> {
    let mut indexes: HashMap<&SeatId, usize, BuildHasherDefault<NameHasher>> = HashMap::default();
    let mut exercises: HashMap<&ExerciseSlug, usize, BuildHasherDefault<NameHasher>> =
        HashMap::default();
    let mut last: Option<(&ExerciseSlug, usize)> = None;
    let mut counted = Counted {
        seats: Vec::new(),
        firsts: Vec::new(),
    };
    for result in results {
        let is_late = rules.close_on.is_some_and(|close| result.at > close);
        if is_late || rules.excluded.contains(&result.seat) || rules.void.contains(&result.exercise)
        {
            continue;
        }
        let seat = *indexes.entry(&result.seat).or_insert_with(|| {
            counted.seats.push(&result.seat);
            counted.seats.len() - 1
        });
        let exercise = match last {
            Some((exercise, index)) if *exercise == result.exercise => index,
            _ => *exercises.entry(&result.exercise).or_insert_with(|| {
                counted.firsts.push(Vec::new());
                counted.firsts.len() - 1
            }),
        };
        last = Some((&result.exercise, exercise));
        let firsts = &mut counted.firsts[exercise];
        if firsts.len() <= seat {
            firsts.resize(counted.seats.len(), None);
        }
        firsts[seat] = Some(firsts[seat].map_or(result.at, |at| at.min(result.at)));
    }
    counted
}

fn totals(scoring: Scoring, counted: &Counted<'_>) -> Vec<Row> {
    let mut rows: Vec<Option<Row>> = vec![None; counted.seats.len()];
    for firsts in &counted.firsts {
        let mut order: Vec<(Timestamp, usize)> = firsts
            .iter()
            .enumerate()
            .filter_map(|(seat, at)| at.map(|at| (at, seat)))
            .collect();
        if scoring == Scoring::Score {
            put_leaders_first(&mut order, &counted.seats);
        }
        for (place, (at, seat)) in order.into_iter().enumerate() {
            let new = || Row {
                rank: 0,
                seat: counted.seats[seat].clone(),
                solved: 0,
                points: 0,
                first: at,
                last: at,
            };
            let row = rows[seat].get_or_insert_with(new);
            row.solved += 1;
            row.first = row.first.min(at);
            row.last = row.last.max(at);
            if scoring == Scoring::Score {
                row.points += points(place);
            }
        }
    }
    rows.into_iter().flatten().collect()
}

/// Sorts those who get more than the least; everyone after gets the same.
fn put_leaders_first(order: &mut [(Timestamp, usize)], seats: &[&SeatId]) {
    let compare = |one: &(Timestamp, usize), other: &(Timestamp, usize)| {
        one.0
            .cmp(&other.0)
            .then_with(|| seats[one.1].cmp(seats[other.1]))
    };
    if order.len() > LEADERS {
        order.select_nth_unstable_by(LEADERS, compare);
    }
    let leaders = order.len().min(LEADERS);
    order[..leaders].sort_unstable_by(compare);
}

/// Hashes names eight bytes at a time. They are the facilitator's, not an attacker's.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let mixed = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
            self.0 = mixed.wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// Points for a place in the order of solving an exercise, from 0.
fn points(place: usize) -> u32 {
    let less = u32::try_from(place)
        .unwrap_or(u32::MAX)
        .saturating_mul(POINTS_STEP);
    POINTS_FIRST.saturating_sub(less).max(POINTS_LEAST)
}

/// A duration as people read it: `1h 30m`, `25m`, `45s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortDuration(pub Duration);

impl fmt::Display for ShortDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds / 3600, seconds % 3600 / 60) {
            (0, 0) => write!(f, "{seconds}s"),
            (0, minutes) => write!(f, "{minutes}m"),
            (hours, minutes) => write!(f, "{hours}h {minutes}m"),
        }
    }
}

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
