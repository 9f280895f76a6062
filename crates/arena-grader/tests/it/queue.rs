//! Which run is next.

use std::num::NonZeroUsize;
use std::time::Duration;

use arena_grader::{GradeQueue, Run};
use arena_workshop::{ExerciseSlug, SeatId};
use proptest::prelude::*;

fn run(seat: &str, exercise: &str) -> Run {
    Run {
        seat: SeatId::new(seat).unwrap(),
        exercise: ExerciseSlug::new(exercise).unwrap(),
    }
}

fn queue(at_once: usize) -> GradeQueue {
    GradeQueue::new(NonZeroUsize::new(at_once).unwrap())
}

#[test]
fn the_same_seat_and_exercise_twice_is_one_run() {
    let mut queue = queue(4);
    assert_eq!(queue.push(&run("ada", "crud-1")), 1);
    assert_eq!(queue.push(&run("ada", "crud-1")), 1);
    assert_eq!(queue.waiting(), 1);
    assert_eq!(queue.next(), Some(run("ada", "crud-1")));
    // It began before what is asked now, so it is run once more.
    queue.push(&run("ada", "crud-1"));
    assert_eq!(queue.next(), None, "one run per seat at a time");
    queue.finish(&run("ada", "x").seat, Duration::from_secs(1));
    assert_eq!(queue.next(), Some(run("ada", "crud-1")));
    queue.finish(&run("ada", "x").seat, Duration::from_secs(1));
    assert!(queue.is_idle());
}

#[test]
fn no_more_than_so_many_run_at_once() {
    let mut queue = queue(2);
    for seat in ["ada", "bo", "cleo"] {
        queue.push(&run(seat, "crud-1"));
    }
    assert_eq!(queue.position(&run("cleo", "crud-1")), Some(3));
    assert!(queue.next().is_some() && queue.next().is_some());
    assert_eq!(queue.next(), None);
    assert_eq!(queue.position(&run("cleo", "crud-1")), Some(1));
}

#[test]
fn a_seat_whose_app_hangs_waits_for_itself() {
    let mut queue = queue(1);
    for number in 1..=4 {
        queue.push(&run("slow", &format!("crud-{number}")));
    }
    let mut order = Vec::new();
    for number in 1..=4 {
        let next = queue.next().unwrap();
        let took = if next.seat.as_str() == "slow" { 20 } else { 1 };
        queue.finish(&next.seat, Duration::from_secs(took));
        order.push(next.seat.to_string());
        queue.push(&run("quick", &format!("crud-{number}")));
    }
    assert_eq!(order, ["slow", "quick", "quick", "quick"]);
}

proptest! {
    #[test]
    fn every_run_is_run_and_never_two_of_a_seat(pushes in prop::collection::vec((0..4_u8, 0..4_u8, 1..30_u64), 1..60), at_once in 1..4_usize) {
        let mut queue = queue(at_once);
        let mut asked = std::collections::BTreeSet::new();
        let mut done = std::collections::BTreeSet::new();
        let mut running: Vec<(Run, u64)> = Vec::new();
        for (seat, exercise, took) in pushes {
            let wanted = run(&format!("seat-{seat}"), &format!("crud-{exercise}"));
            let position = queue.push(&wanted);
            prop_assert!(position >= 1 && position <= queue.waiting());
            asked.insert(wanted);
            if let Some(next) = queue.next() {
                prop_assert!(running.iter().all(|(run, _)| run.seat != next.seat));
                running.push((next, took));
            }
            prop_assert!(running.len() <= at_once);
            if running.len() == at_once {
                let (run, took) = running.remove(0);
                queue.finish(&run.seat, Duration::from_secs(took));
                done.insert(run);
            }
        }
        while !queue.is_idle() {
            while let Some(next) = queue.next() {
                running.push((next, 1));
            }
            let (run, took) = running.remove(0);
            queue.finish(&run.seat, Duration::from_secs(took));
            done.insert(run);
        }
        prop_assert_eq!(asked, done);
    }
}
