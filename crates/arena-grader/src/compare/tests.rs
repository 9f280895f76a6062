//! What counts as equal: laws over any values, and the cases that people argue about.

use bson::{Bson, bson};
use proptest::prelude::*;

use super::{contains, equal, is_subset, near, order, unpaired};
use crate::values::{from_json, to_json};

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        Just(Bson::Null),
        any::<bool>().prop_map(Bson::Boolean),
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        (-1e12..1e12_f64).prop_map(Bson::Double),
        "[a-z0-9:.TZ-]{0,12}".prop_map(Bson::String),
        (0..4_000_000_000_000_i64)
            .prop_map(|millis| Bson::DateTime(bson::DateTime::from_millis(millis))),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(bson::oid::ObjectId::from_bytes(bytes))),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_equals_itself_and_what_a_node_app_prints_of_it(value in value()) {
        prop_assert!(equal(&value, &value));
        prop_assert!(equal(&value, &from_json(&to_json(&value))), "{value:?}");
        prop_assert!(is_subset(&value, &value));
    }

    #[test]
    fn equality_does_not_depend_on_the_side(left in value(), right in value()) {
        prop_assert_eq!(equal(&left, &right), equal(&right, &left));
    }

    #[test]
    fn rows_in_any_order_are_paired(rows in prop::collection::vec(value(), 0..6), turn in 0..6_usize) {
        let mut turned = rows.clone();
        turned.rotate_left(turn.min(rows.len()));
        let (missing, extra) = unpaired(&rows, &turned);
        prop_assert!(missing.is_empty() && extra.is_empty());
        prop_assert!(rows.iter().all(|row| contains(&turned, row)));
    }

    #[test]
    fn whole_numbers_are_compared_exactly(left in any::<i64>(), right in any::<i64>()) {
        prop_assert_eq!(equal(&Bson::Int64(left), &Bson::Int64(right)), left == right);
        prop_assert_eq!(order(&Bson::Int64(left), &Bson::Int64(right)), Some(left.cmp(&right)));
    }
}

#[test]
fn numbers_are_equal_across_their_types() {
    let forms = [
        Bson::Int32(80),
        Bson::Int64(80),
        Bson::Double(80.0),
        Bson::Decimal128("80.00".parse().unwrap()),
        from_json(&serde_json::json!({ "$numberDecimal": "80.0" })),
    ];
    for left in &forms {
        for right in &forms {
            assert!(equal(left, right), "{left} {right}");
        }
        assert!(!equal(left, &Bson::String("80".to_owned())));
        assert!(!equal(left, &Bson::Int32(81)));
    }
    assert!(near(
        &Bson::Double(0.3),
        &Bson::Decimal128("0.4".parse().unwrap()),
        0.1
    ));
    assert!(!near(&Bson::Double(0.3), &Bson::Double(0.42), 0.1));
}

#[test]
fn dates_are_equal_by_instant_and_ids_by_their_hex() {
    let date =
        Bson::DateTime(bson::DateTime::parse_rfc3339_str("2026-01-02T03:04:05.678Z").unwrap());
    for same in [
        "2026-01-02T03:04:05.678Z",
        "2026-01-02T04:04:05.678+01:00",
        "2026-01-02T03:04:05.678",
    ] {
        assert!(equal(&date, &Bson::String(same.to_owned())), "{same}");
    }
    for other in ["2026-01-02T03:04:05.679Z", "2026-01-02", "yesterday"] {
        assert!(!equal(&date, &Bson::String(other.to_owned())), "{other}");
    }
    let id = bson::oid::ObjectId::new();
    assert!(equal(&Bson::ObjectId(id), &Bson::String(id.to_hex())));
    assert!(!equal(&Bson::ObjectId(id), &Bson::String("0".repeat(24))));
}

#[test]
fn fields_have_no_order_and_rows_have_one() {
    assert!(equal(
        &bson!({ "a": 1, "b": 2 }),
        &bson!({ "b": 2, "a": 1 })
    ));
    assert!(!equal(&bson!([1, 2]), &bson!([2, 1])));
    assert!(!equal(&bson!({ "a": 1 }), &bson!({ "a": 1, "b": 2 })));
    assert!(is_subset(&bson!({ "a": 1 }), &bson!({ "a": 1, "b": 2 })));
}
