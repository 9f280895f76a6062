//! Ways in for fuzzers and property tests: bytes that anybody could send, and what
//! must hold whatever they are. Each panics when it does not hold. Not for use.

use bson::{Bson, Document};
use bytes::Bytes;

use crate::pipeline::{Place, Reader};
use crate::scram::{ClientFirst, Conversation, ScramVerifier};
use crate::strict;
use crate::users::{Role, User};
use crate::wire::{self, HEADER_BYTES, Header, MESSAGE_BYTES_MAX, Request};

/// Whose pipelines are walked.
const OWN: &str = "ada";

/// A message, header first: whatever is accepted can be read to the end and answered.
pub fn message(bytes: &[u8]) {
    let Some((head, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return;
    };
    let Ok(header) = Header::parse(*head, MESSAGE_BYTES_MAX) else {
        return;
    };
    let payload = Bytes::copy_from_slice(payload);
    let Ok(request) = Request::parse(&header, head, payload, MESSAGE_BYTES_MAX) else {
        return;
    };
    Document::try_from(request.body.clone()).expect("an accepted body is readable");
    for (_, sequence) in &request.sequences {
        let read: usize = wire::documents_of(sequence)
            .map(|document| document.as_bytes().len())
            .sum();
        assert_eq!(
            read,
            sequence.len(),
            "an accepted sequence is whole documents"
        );
    }
    let reply = wire::encode_reply(request.framing, header.request_id, &request.body);
    assert!(reply.len() > HEADER_BYTES);
}

/// A document with a `pipeline`: what the walk lets through names no other database.
pub fn pipeline(bytes: &[u8]) {
    if strict::check_document(bytes).is_err() {
        return;
    }
    let Ok(document) = Document::from_reader(bytes) else {
        return;
    };
    let stages = document.get_array("pipeline").cloned().unwrap_or_default();
    let user = User {
        verifier: ScramVerifier::of_nobody(&[0; 32], OWN),
        roles: Role::parse("readWrite@ada").into_iter().collect(),
    };
    let reader = Reader {
        user: &user,
        database: OWN,
    };
    if let Ok(checked) = reader.check_pipeline(&stages, Place::Top) {
        stays_inside(&checked);
    }
    let _ = reader.check_update_pipeline(&stages);
}

/// Looks again, knowing only where MongoDB has pipelines and names of collections.
fn stays_inside(stages: &[Bson]) {
    for stage in stages {
        let Some((name, value)) = stage.as_document().and_then(|stage| stage.iter().next()) else {
            panic!("a stage without a name passed");
        };
        match (name.as_str(), value) {
            ("$lookup" | "$graphLookup" | "$unionWith", Bson::Document(join)) => {
                for field in ["from", "coll"] {
                    let other = join.get(field);
                    assert!(
                        other.is_none_or(|name| matches!(name, Bson::String(_) | Bson::Null)),
                        "{name} from {other:?}"
                    );
                }
                assert!(!join.contains_key("db"), "{name} names a database");
                if let Some(Bson::Array(inner)) = join.get("pipeline") {
                    stays_inside(inner);
                }
            }
            ("$facet", Bson::Document(facets)) => facets
                .values()
                .filter_map(Bson::as_array)
                .for_each(|inner| stays_inside(inner)),
            ("$out", target) => writes_inside(target),
            ("$merge", Bson::Document(merge)) => writes_inside(merge.get("into").unwrap_or(value)),
            ("$merge", target) => writes_inside(target),
            ("$where" | "$function" | "$accumulator", _) => panic!("{name} passed"),
            _ => {}
        }
    }
}

fn writes_inside(target: &Bson) {
    if let Bson::Document(target) = target
        && let Some(database) = target.get("db")
    {
        assert_eq!(database.as_str(), Some(OWN), "writes elsewhere");
    }
}

/// Two messages of a login, a zero byte between: nobody gets in by them, and nothing panics.
pub fn login(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (first, last) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let Ok(first) = ClientFirst::parse(first) else {
        return;
    };
    let (conversation, answer) =
        Conversation::start(first, ScramVerifier::of_nobody(&[7; 32], "ada"));
    assert!(answer.starts_with("r="));
    assert!(conversation.finish(last).is_err(), "got in");
    if let Ok(text) = std::str::from_utf8(last) {
        let _ = ScramVerifier::parse(text);
    }
}
