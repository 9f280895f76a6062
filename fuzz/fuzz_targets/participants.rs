//! Any list of names: seats or problems, never a panic, never a seat twice.
#![no_main]

use std::collections::BTreeSet;

use arena_workshop::participants::{Spare, parse};
use arena_workshop::{Problems, SourceFile};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut problems = Problems::default();
    let spare = Spare { prefix: "arena".to_owned(), start: 0, count: 3 };
    let file = SourceFile::new("user_list.csv", bytes);
    if let Some(participants) = parse(Some(&file), &spare, &mut problems) {
        let ids: BTreeSet<&str> = participants.seats.iter().map(|seat| seat.id.as_str()).collect();
        assert_eq!(ids.len(), participants.seats.len());
    }
});
