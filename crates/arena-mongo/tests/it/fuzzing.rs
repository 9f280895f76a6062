//! The fuzzers' ways in, briefly: `cargo xtask test --long` tries a thousand times
//! more, and `fuzz/` lets a fuzzer look for itself.

use arena_mongo::fuzzing;
use mongodb::bson::{Bson, Document, doc};
use proptest::prelude::*;

/// Names that mean something in pipelines, and some that do not.
fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "$lookup",
        "$unionWith",
        "$graphLookup",
        "$facet",
        "$out",
        "$merge",
        "$match",
        "$project",
        "$set",
        "from",
        "coll",
        "db",
        "into",
        "as",
        "pipeline",
        "let",
        "whenMatched",
        "f",
        "$where",
        "$function",
        "a",
    ])
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        Just(Bson::Null),
        any::<i32>().prop_map(Bson::Int32),
        proptest::sample::select(vec!["c", "bob", "ada", "", "$$ROOT", "system.users"])
            .prop_map(Bson::from),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            proptest::collection::vec((name(), inner), 0..4)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect::<Document>())),
        ]
    })
}

fn stage() -> impl Strategy<Value = Bson> {
    (name(), value()).prop_map(|(name, value)| Bson::from(doc! { name: value }))
}

fn bytes_of(document: &Document) -> Vec<u8> {
    crate::wire::document(document)
}

proptest! {
    #[test]
    fn no_pipeline_that_passes_reaches_outside(stages in proptest::collection::vec(stage(), 0..5)) {
        fuzzing::pipeline(&bytes_of(&doc! { "pipeline": stages }));
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 16..300), is_message: bool) {
        if is_message {
            let length = i32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            bytes[12..16].copy_from_slice(&2013_i32.to_le_bytes());
        }
        fuzzing::message(&bytes);
    }

    #[test]
    fn a_message_with_one_byte_changed_is_a_message_or_an_error(stages in proptest::collection::vec(stage(), 0..3), at in 0_usize..400, value: u8) {
        let body = bytes_of(&doc! { "aggregate": "c", "pipeline": stages, "$db": "ada" });
        let mut bytes = crate::wire::message(&body);
        let at = at % bytes.len();
        bytes[at] = value;
        fuzzing::message(&bytes);
        fuzzing::pipeline(&bytes[21..]);
    }

    #[test]
    fn nobody_logs_in_by_chance(first in "[ny],,n=[a-z=,]{0,8},r=[a-z]{0,5}", last in "(c=biws,r=[a-z]{0,9},p=[A-Za-z0-9+/]{0,44}|.{0,60})") {
        fuzzing::login(&[first.as_bytes(), &[0], last.as_bytes()].concat());
    }

    #[test]
    fn any_bytes_are_a_login_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        fuzzing::login(&bytes);
    }
}
