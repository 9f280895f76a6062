//! Which run is next. Pure: control tells it what is asked and what ended.
//!
//! The same seat and exercise twice in the queue is one run; a seat has one run
//! at a time; overall the number is bounded. Seats share the grader by time
//! used: a seat whose app hangs for 20 seconds waits for itself, not the others
//! for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::time::Duration;

use arena_workshop::{ExerciseSlug, SeatId};

/// One exercise of one seat to be graded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The seat.
    pub seat: SeatId,
    /// The exercise.
    pub exercise: ExerciseSlug,
}

/// Runs that wait and runs that run.
#[derive(Debug)]
pub struct GradeQueue {
    at_once: NonZeroUsize,
    waiting: BTreeMap<SeatId, Waiting>,
    running: BTreeSet<SeatId>,
    /// Time used by each seat that was busy lately, on the clock of the fair share.
    used: BTreeMap<SeatId, Duration>,
    /// The share that the least served waiting seat has had.
    clock: Duration,
    arrivals: u64,
}

#[derive(Debug)]
struct Waiting {
    exercises: VecDeque<ExerciseSlug>,
    arrived: u64,
}

impl GradeQueue {
    /// Returns an empty queue that runs so many at once.
    pub fn new(at_once: NonZeroUsize) -> Self {
        Self {
            at_once,
            waiting: BTreeMap::new(),
            running: BTreeSet::new(),
            used: BTreeMap::new(),
            clock: Duration::ZERO,
            arrivals: 0,
        }
    }

    /// Adds a run, unless it waits already. Returns its position from 1. A run that is running
    /// now is added again: it began before what is asked now.
    pub fn push(&mut self, run: &Run) -> usize {
        self.arrivals += 1;
        let arrived = self.arrivals;
        let waiting = self
            .waiting
            .entry(run.seat.clone())
            .or_insert_with(|| Waiting {
                exercises: VecDeque::new(),
                arrived,
            });
        if !waiting.exercises.contains(&run.exercise) {
            waiting.exercises.push_back(run.exercise.clone());
        }
        // Time not used is not saved up.
        let used = self.used.entry(run.seat.clone()).or_default();
        *used = (*used).max(self.clock);
        self.position(run).unwrap_or(1)
    }

    /// Takes the next run, if one may run now. The caller says when it [ended](Self::finish).
    #[expect(
        clippy::should_implement_trait,
        reason = "a queue that is refilled is no iterator"
    )]
    pub fn next(&mut self) -> Option<Run> {
        if self.running.len() >= self.at_once.get() {
            return None;
        }
        let free = self
            .waiting
            .iter()
            .filter(|(seat, _)| !self.running.contains(*seat));
        let seat = free
            .min_by_key(|(seat, waiting)| (self.used_by(seat), waiting.arrived))
            .map(|(seat, _)| seat.clone())?;
        self.clock = self.clock.max(self.used_by(&seat));
        let waiting = self.waiting.get_mut(&seat)?;
        let exercise = waiting.exercises.pop_front()?;
        if waiting.exercises.is_empty() {
            self.waiting.remove(&seat);
        }
        self.running.insert(seat.clone());
        Some(Run { seat, exercise })
    }

    /// Says that a seat's run ended and how long it took.
    pub fn finish(&mut self, seat: &SeatId, took: Duration) {
        self.running.remove(seat);
        *self.used.entry(seat.clone()).or_default() += took;
        // Seats that wait for nothing and have had their share are forgotten.
        let (waiting, running, clock) = (&self.waiting, &self.running, self.clock);
        self.used.retain(|seat, used| {
            waiting.contains_key(seat) || running.contains(seat) || *used > clock
        });
    }

    /// Forgets what a seat waits for.
    pub fn remove_seat(&mut self, seat: &SeatId) {
        self.waiting.remove(seat);
    }

    /// Returns the position of a waiting run, from 1: how many begin before it at most, plus one.
    pub fn position(&self, run: &Run) -> Option<usize> {
        let own = self.waiting.get(&run.seat)?;
        let place = own
            .exercises
            .iter()
            .position(|exercise| *exercise == run.exercise)?;
        let rank = |seat: &SeatId, waiting: &Waiting| (self.used_by(seat), waiting.arrived);
        let mine = rank(&run.seat, own);
        let others = self.waiting.iter().filter(|(seat, _)| **seat != run.seat);
        let before = others.map(|(seat, waiting)| {
            let turns = if rank(seat, waiting) < mine {
                place + 1
            } else {
                place
            };
            waiting.exercises.len().min(turns)
        });
        Some(before.sum::<usize>() + place + 1)
    }

    /// Returns how many runs wait.
    pub fn waiting(&self) -> usize {
        self.waiting
            .values()
            .map(|waiting| waiting.exercises.len())
            .sum()
    }

    /// Returns whether nothing waits and nothing runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    fn used_by(&self, seat: &SeatId) -> Duration {
        self.used.get(seat).copied().unwrap_or_default()
    }
}
