//! Points and ranking, also as laws over any results.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use arena_workshop::scoring::{Leaderboard, Rules, Scoring, ShortDuration, Solved, parse_duration};
use arena_workshop::{ExerciseSlug, SeatId};
use jiff::Timestamp;
use proptest::prelude::*;

fn solved(seat: &str, exercise: &str, second: i64) -> Solved {
    Solved {
        seat: SeatId::new(seat).unwrap(),
        exercise: ExerciseSlug::new(exercise).unwrap(),
        at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
    }
}

fn board(scoring: Scoring, results: &[Solved], rules: &Rules) -> Vec<String> {
    let rows = Leaderboard::rank(scoring, results, rules).rows;
    rows.iter()
        .map(|row| {
            format!(
                "{} {} {}x {}p {}",
                row.rank,
                row.seat,
                row.solved,
                row.points,
                ShortDuration(row.duration())
            )
        })
        .collect()
}

#[test]
fn timed_counts_first_and_then_the_clock() {
    let results = [
        solved("ada", "crud-1", 0),
        solved("ada", "crud-2", 5400),
        solved("grace", "crud-1", 100),
        solved("grace", "crud-2", 1600),
        solved("alan", "crud-1", 10),
        solved("edgar", "crud-1", 5),
        solved("edgar", "crud-1", 9),
    ];
    assert_eq!(
        board(Scoring::Timed, &results, &Rules::default()),
        [
            "1 grace 2x 0p 25m",
            "2 ada 2x 0p 1h 30m",
            "3 edgar 1x 0p 0s",
            "3 alan 1x 0p 0s"
        ]
    );
}

#[test]
fn score_gives_less_to_later_ones_and_fifty_from_the_eleventh() {
    let results: Vec<Solved> = (0..13)
        .map(|n| solved(&format!("s{n}"), "crud-1", n))
        .collect();
    let points: Vec<u32> = Leaderboard::rank(Scoring::Score, &results, &Rules::default())
        .rows
        .iter()
        .map(|row| row.points)
        .collect();
    assert_eq!(
        points,
        [100, 95, 90, 85, 80, 75, 70, 65, 60, 55, 50, 50, 50]
    );
    let ranks: Vec<u32> = Leaderboard::rank(Scoring::Score, &results, &Rules::default())
        .rows
        .iter()
        .map(|row| row.rank)
        .collect();
    assert_eq!(ranks[9..], [10, 11, 11, 11]);
}

#[test]
fn excluded_seats_and_late_results_give_way() {
    let results = [
        solved("ada", "crud-1", 0),
        solved("grace", "crud-1", 1),
        solved("alan", "crud-1", 2),
        solved("grace", "crud-2", 10),
    ];
    let rules = Rules {
        close_on: Some(Timestamp::from_second(1_700_000_002).unwrap()),
        excluded: BTreeSet::from([SeatId::new("ada").unwrap()]),
        void: BTreeSet::new(),
    };
    assert_eq!(
        board(Scoring::Score, &results, &rules),
        ["1 grace 1x 100p 0s", "2 alan 1x 95p 0s"]
    );
}

#[test]
fn durations_read_as_people_write_them() {
    for (seconds, text) in [
        (0, "0s"),
        (45, "45s"),
        (1500, "25m"),
        (1530, "25m"),
        (5400, "1h 30m"),
        (7200, "2h 0m"),
    ] {
        assert_eq!(
            ShortDuration(Duration::from_secs(seconds)).to_string(),
            text
        );
    }
    assert_eq!(parse_duration("1h 30m"), Some(Duration::from_secs(5400)));
    assert_eq!(parse_duration("45s"), Some(Duration::from_secs(45)));
    for wrong in ["", "5", "m", "1d", "-1s", "1h30m", "99999999999999999999h"] {
        assert_eq!(parse_duration(wrong), None, "{wrong}");
    }
}

#[test]
fn ten_thousand_seats_are_ranked_while_nobody_waits() {
    let results: Vec<Solved> = (0..160_000_i64)
        .map(|n| {
            solved(
                &format!("participant-{}", (n * 7919) % 10_000),
                &format!("crud-{}", n / 10_000),
                n,
            )
        })
        .collect();
    for scoring in [Scoring::Timed, Scoring::Score] {
        let best = (0..5)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(
                    Leaderboard::rank(scoring, &results, &Rules::default())
                        .rows
                        .len(),
                    10_000
                );
                start.elapsed()
            })
            .min();
        println!("{scoring:?}: {best:?}");
    }
}

fn any_results() -> impl Strategy<Value = Vec<Solved>> {
    proptest::collection::vec((0..15_u8, 0..4_u8, 0..50_i64), 0..80).prop_map(|rows| {
        rows.into_iter()
            .map(|(seat, exercise, at)| solved(&format!("s{seat}"), &format!("e-{exercise}"), at))
            .collect()
    })
}

/// The reference's rule written down naively.
fn naive_points(results: &[Solved]) -> BTreeMap<SeatId, u32> {
    let mut points = BTreeMap::new();
    let exercises: BTreeSet<_> = results
        .iter()
        .map(|result| result.exercise.clone())
        .collect();
    for exercise in exercises {
        let mut firsts = BTreeMap::new();
        for result in results.iter().filter(|result| result.exercise == exercise) {
            let at = firsts.entry(result.seat.clone()).or_insert(result.at);
            *at = (*at).min(result.at);
        }
        let mut order: Vec<_> = firsts.into_iter().map(|(seat, at)| (at, seat)).collect();
        order.sort();
        for (place, (_, seat)) in order.into_iter().enumerate() {
            *points.entry(seat).or_insert(0) += [100, 95, 90, 85, 80, 75, 70, 65, 60, 55]
                .get(place)
                .copied()
                .unwrap_or(50);
        }
    }
    points
}

proptest! {
    #[test]
    fn the_order_of_results_never_matters(results in any_results(), seed in any::<u64>()) {
        let mut shuffled = results.clone();
        shuffled.sort_by_key(|result| format!("{}{}{}{seed}", result.at, result.seat, result.exercise).bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte))));
        for scoring in [Scoring::Timed, Scoring::Score] {
            prop_assert_eq!(Leaderboard::rank(scoring, &results, &Rules::default()), Leaderboard::rank(scoring, &shuffled, &Rules::default()));
        }
    }

    #[test]
    fn points_are_those_of_the_plain_rule(results in any_results()) {
        let board = Leaderboard::rank(Scoring::Score, &results, &Rules::default());
        let points: BTreeMap<SeatId, u32> = board.rows.iter().map(|row| (row.seat.clone(), row.points)).collect();
        prop_assert_eq!(points, naive_points(&results));
        prop_assert!(board.rows.windows(2).all(|pair| pair[0].points >= pair[1].points && pair[0].rank <= pair[1].rank));
    }

    #[test]
    fn a_result_after_the_close_changes_nothing(results in any_results(), close in 0..50_i64, late in 1..100_i64) {
        let close = Timestamp::from_second(1_700_000_000 + close).unwrap();
        let rules = Rules { close_on: Some(close), ..Rules::default() };
        let mut more = results.clone();
        more.push(Solved { at: close + jiff::SignedDuration::from_secs(late), ..solved("s1", "e-9", 0) });
        for scoring in [Scoring::Timed, Scoring::Score] {
            prop_assert_eq!(Leaderboard::rank(scoring, &results, &rules), Leaderboard::rank(scoring, &more, &rules));
        }
    }

    #[test]
    fn solving_one_more_never_lowers_a_rank_by_score(results in any_results(), seat in 0..15_u8) {
        let seat = format!("s{seat}");
        let rank = |results: &[Solved]| Leaderboard::rank(Scoring::Score, results, &Rules::default()).rows.iter().find(|row| row.seat.as_str() == seat).map_or(u32::MAX, |row| row.rank);
        let mut more = results.clone();
        more.push(solved(&seat, "e-9", 49));
        prop_assert!(rank(&more) <= rank(&results));
    }
}
