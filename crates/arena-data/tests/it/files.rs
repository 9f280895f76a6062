//! Every format read, and every mistake told with its place.

use std::io::Write;
use std::ops::ControlFlow;

use arena_data::{ArchiveWriter, Collection, Content, DataError, DataFile, Piece, read};
use bson::{Bson, Document, doc};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

fn file(name: &str, bytes: impl Into<Vec<u8>>) -> DataFile {
    DataFile {
        name: name.to_owned(),
        content: Content::Bytes(bytes.into()),
    }
}

fn pieces(file: &DataFile) -> Result<Vec<Piece>, DataError> {
    let mut pieces = Vec::new();
    read(file, &mut |piece| {
        pieces.push(piece);
        ControlFlow::Continue(())
    })?;
    Ok(pieces)
}

fn documents(name: &str, bytes: impl Into<Vec<u8>>) -> Vec<(String, Document)> {
    let document = |piece| match piece {
        Piece::Document {
            collection,
            document,
        } => Some((collection.to_string(), document)),
        _ => None,
    };
    pieces(&file(name, bytes))
        .unwrap()
        .into_iter()
        .filter_map(document)
        .collect()
}

fn told(name: &str, bytes: impl Into<Vec<u8>>) -> String {
    pieces(&file(name, bytes)).unwrap_err().to_string()
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap()
}

fn one(name: &str, document: Document) -> Vec<(String, Document)> {
    vec![(name.to_owned(), document)]
}

#[test]
fn lines_lists_and_values_over_many_lines_are_documents() {
    let text =
        r#"{"_id":"1","price":{"$numberDecimal":"9.50"},"at":{"$date":"2026-01-02T03:04:05Z"}}"#;
    let expected = doc! {
        "_id": "1",
        "price": "9.50".parse::<bson::Decimal128>().unwrap(),
        "at": bson::DateTime::parse_rfc3339_str("2026-01-02T03:04:05Z").unwrap(),
    };
    for bytes in [
        format!("{text}\n"),
        format!("\u{feff}{text}"),
        format!("\n\n  {text}  \r\n\n"),
    ] {
        assert_eq!(
            documents("arena/data/listings.ndjson", bytes),
            one("listings", expected.clone())
        );
    }
    for bytes in [
        format!("[{text}]"),
        text.to_owned(),
        text.replace(',', ",\n  "),
    ] {
        assert_eq!(
            documents("listings.json", bytes),
            one("listings", expected.clone())
        );
    }
    let canonical = r#"{"a":{"$numberInt":"1"},"b":{"$numberLong":"2"},"c":{"$numberDouble":"3.0"},"d":{"$oid":"0123456789abcdef01234567"}}"#;
    let found = documents("x.ndjson", canonical);
    assert_eq!(found[0].1.get_i64("b").unwrap(), 2);
    assert_eq!(
        documents("fs.files.ndjson.gz", zipped(b"{\"a\":1}\n{\"a\":2}"))[1],
        ("fs.files".to_owned(), doc! { "a": 2 })
    );
    assert_eq!(
        documents("x.json", "{\"a\":\"}]\\\"{\"}\n{\"b\":2}").len(),
        2
    );
    assert_eq!(documents("x.json", "[]"), []);
}

#[test]
fn an_empty_file_is_an_empty_collection() {
    for name in ["towns.ndjson", "towns.json", "towns.bson"] {
        let name: &str = name;
        assert_eq!(
            pieces(&file(name, "")).unwrap(),
            [Piece::Collection {
                name: "towns".into(),
                options: doc! {}
            }],
            "{name}"
        );
    }
}

#[test]
fn a_table_has_types_and_inner_documents() {
    let text = "\u{feff}name,people:int,since:date,place.lon:double,place.lat:double,tags:json,code\n\
        Bergen,285000,1070-01-01,5.3,60.4,\"[\"\"rain\"\"]\",0150\n\"Aa, \"\"B\"\"\",,,,,,7\n";
    let found = documents("towns.csv", text);
    let date = bson::DateTime::parse_rfc3339_str("1070-01-01T00:00:00Z").unwrap();
    let bergen = doc! { "name": "Bergen", "people": 285_000, "since": date, "place": { "lon": 5.3, "lat": 60.4 }, "tags": ["rain"], "code": "0150" };
    assert_eq!(found[0].1, bergen);
    assert_eq!(found[1].1, doc! { "name": "Aa, \"B\"", "code": 7 });
}

#[test]
fn what_is_declared_is_read_with_all_its_options() {
    let index = r#"[{"key":{"at":1},"name":"ttl","expireAfterSeconds":60},{"key":{"$**":"text"},"weights":{"a":2},"partialFilterExpression":{"a":{"$gt":1}}}]"#;
    let Piece::Indexes {
        collection,
        indexes,
    } = pieces(&file("a.indexes.json", index)).unwrap().remove(0)
    else {
        panic!("no indexes");
    };
    assert_eq!((&*collection, indexes.len()), ("a", 2));
    assert_eq!(
        indexes[0],
        doc! { "key": { "at": 1 }, "name": "ttl", "expireAfterSeconds": 60 }
    );
    let schema = doc! { "$jsonSchema": { "required": ["a"] } };
    for (text, options) in [
        (
            r#"{"$jsonSchema":{"required":["a"]}}"#,
            doc! { "validator": schema.clone() },
        ),
        (
            r#"{"validator":{"$jsonSchema":{"required":["a"]}},"validationAction":"warn"}"#,
            doc! { "validator": schema.clone(), "validationAction": "warn" },
        ),
    ] {
        assert_eq!(
            pieces(&file("a.validator.json", text)).unwrap(),
            [Piece::Collection {
                name: "a".into(),
                options
            }]
        );
    }
    let view = r#"{"viewOn":"a","pipeline":[{"$match":{"n":{"$lt":10}}}]}"#;
    let options = doc! { "viewOn": "a", "pipeline": [{ "$match": { "n": { "$lt": 10 } } }] };
    assert_eq!(
        pieces(&file("v.view.json", view)).unwrap(),
        [Piece::View {
            name: "v".into(),
            options
        }]
    );
}

/// An archive with a collection, its index and validator, and a view.
fn archive() -> Vec<u8> {
    let collections = [
        Collection {
            name: "towns".to_owned(),
            options: doc! { "validator": { "name": { "$type": "string" } } },
            indexes: vec![doc! { "key": { "name": 1 }, "name": "name_1", "unique": true }],
        },
        Collection {
            name: "wet".to_owned(),
            options: doc! { "viewOn": "towns", "pipeline": [] },
            indexes: vec![],
        },
    ];
    let mut archive = ArchiveWriter::begin(Vec::new(), "atlas", &collections).unwrap();
    let mut writer = archive.collection("towns").unwrap();
    for name in ["Bergen", "Porto"] {
        writer
            .write(
                &bson::serialize_to_raw_document_buf(&doc! { "_id": 1_i64, "name": name }).unwrap(),
            )
            .unwrap();
    }
    writer.end().unwrap();
    archive.into_inner()
}

#[test]
fn an_archive_is_read_back_as_it_was_written() {
    let expected = vec![
        Piece::Collection {
            name: "towns".into(),
            options: doc! { "validator": { "name": { "$type": "string" } } },
        },
        Piece::Indexes {
            collection: "towns".into(),
            indexes: vec![doc! { "key": { "name": 1 }, "name": "name_1", "unique": true }],
        },
        Piece::View {
            name: "wet".into(),
            options: doc! { "viewOn": "towns", "pipeline": [] },
        },
        Piece::Document {
            collection: "towns".into(),
            document: doc! { "_id": 1_i64, "name": "Bergen" },
        },
        Piece::Document {
            collection: "towns".into(),
            document: doc! { "_id": 1_i64, "name": "Porto" },
        },
    ];
    assert_eq!(pieces(&file("a.archive", archive())).unwrap(), expected);
    assert_eq!(
        pieces(&file("a.archive.gz", zipped(&archive()))).unwrap(),
        expected
    );
}

#[test]
fn a_folder_of_a_dump_is_read_file_by_file() {
    let mut bytes = bson::serialize_to_vec(&doc! { "n": 1 }).unwrap();
    bytes.extend(bson::serialize_to_vec(&doc! { "n": 2 }).unwrap());
    assert_eq!(
        documents("dump/atlas/a%2Fb.bson", bytes.clone())[1],
        ("a/b".to_owned(), doc! { "n": 2 })
    );
    assert_eq!(
        documents("dump/atlas/towns.bson.gz", zipped(&bytes)).len(),
        2
    );
    assert_eq!(documents("dump/atlas/system.views.bson", bytes).len(), 0);
    assert_eq!(pieces(&file("dump/prelude.json", "{}")).unwrap(), []);
    let metadata = r#"{"options":{},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},{"v":{"$numberInt":"2"},"key":{"n":{"$numberInt":"-1"}},"name":"n_-1","sparse":true}],"uuid":"00","collectionName":"towns","type":"collection"}"#;
    assert_eq!(
        pieces(&file("dump/atlas/towns.metadata.json", metadata)).unwrap()[1],
        Piece::Indexes {
            collection: "towns".into(),
            indexes: vec![doc! { "key": { "n": -1 }, "name": "n_-1", "sparse": true }]
        }
    );
}

/// A file's name, its text, and how the message about its mistake begins.
const MISTAKES: [(&str, &str, &str); 20] = [
    (
        "a.ndjson",
        "{}\n{\n",
        "a.ndjson, line 2: EOF while parsing an object",
    ),
    (
        "a.ndjson",
        "3",
        "a.ndjson, line 1: this is not a document: write `{ … }`",
    ),
    (
        "a.ndjson",
        "{\"a\":{\"$oid\":\"zz\"}}",
        "a.ndjson, line 1: this is not extended JSON",
    ),
    (
        "a.json",
        "[{\"a\":1},\n\n{\"a\":}]",
        "a.json, line 3: expected value",
    ),
    (
        "a.json",
        "[{\"a\":1}\n{\"a\":2}]",
        "a.json, line 2: between two documents of a list there must be a comma",
    ),
    (
        "a.json",
        "\n{\"a\":",
        "a.json, line 2: the document that begins here does not end",
    ),
    ("a.json", "[{}", "a.json, line 1: the list does not end"),
    (
        "a.json",
        "[{}]\n{}",
        "a.json, line 2: there is something behind the end of the list",
    ),
    ("a.json", "true", "a.json, line 1: this is not a document"),
    (
        "a.csv",
        "n:int\nx\n",
        "a.csv, line 2: `x` in the column n is no int",
    ),
    (
        "a.csv",
        "n:integer\n",
        "a.csv, line 1: the column n has the type `integer`; there are: string, ",
    ),
    (
        "a.csv",
        "a,b\n1\n",
        "a.csv, line 2: the line has 1 fields, the header has 2",
    ),
    (
        "a.csv",
        "a,a.b\n",
        "a.csv, line 1: the column a.b is there twice, or is part of another",
    ),
    (
        "a.indexes.json",
        "[{\"name\":\"x\"}]",
        "a.indexes.json, line 1: index 1 has no `key`",
    ),
    (
        "a.view.json",
        "{\"pipeline\":[]}",
        "a.view.json, line 1: `viewOn` is missing",
    ),
    (
        "a.validator.json",
        "{\"validator\":{},\"capped\":true}",
        "a.validator.json, line 1: `capped` does not belong here",
    ),
    ("a.txt", "", "the data file a.txt is of no known kind"),
    (
        "a.archive",
        "PK\u{3}\u{4}",
        "a.archive, at byte 0: this is no archive",
    ),
    ("a.archive", "", "a.archive, at byte 0: this is no archive"),
    (
        "a.ndjson.gz",
        "{} and no gzip",
        "cannot read the data file a.ndjson.gz: invalid gzip header",
    ),
];

#[test]
fn a_mistake_is_told_with_its_place() {
    for (name, text, message) in MISTAKES {
        let said = told(name, text);
        assert!(said.starts_with(message), "{name} {text:?}: {said}");
    }
    let depth = "{\"a\":".repeat(5000);
    assert!(told("a.json", depth.clone()).contains("nested too deeply"));
    assert!(told("a.ndjson", depth).contains("recursion limit"));
    assert!(told("a.ndjson", b"{\"a\":\"\xff\"}".to_vec()).starts_with("a.ndjson, line 1: "));
    assert!(told("a.sql", b"\n\xff".to_vec()).starts_with("a.sql, line 2: the file is not UTF-8"));
}

#[test]
fn a_document_larger_than_mongodb_takes_is_refused_before_it_is_sent() {
    let large = format!("{{}}\n{{\"a\":\"{}\"}}\n", "x".repeat(17 * 1024 * 1024));
    assert_eq!(
        told("a.ndjson", large),
        "a.ndjson, line 2: the document is larger than the 16 MiB that MongoDB takes"
    );
    let endless = format!("{{}}\n{{\"a\":\"{}", "x".repeat(70 * 1024 * 1024));
    assert_eq!(
        told("a.ndjson", endless.clone()),
        "a.ndjson, line 2: the document is larger than the 16 MiB that MongoDB takes"
    );
    assert_eq!(
        told("a.json", endless),
        "a.json, line 2: the document is larger than the 16 MiB that MongoDB takes"
    );
}

#[test]
fn a_damaged_archive_is_told_and_never_believed() {
    let whole = archive();
    for length in 1..whole.len() {
        let said = told("a.archive", &whole[..length]);
        assert!(
            said.contains("cut off") || said.contains("no archive"),
            "{length}: {said}"
        );
    }
    let place = whole
        .windows(5)
        .rposition(|bytes| bytes == b"Porto")
        .unwrap();
    let mut changed = whole.clone();
    changed[place] = b'p';
    assert!(
        told("a.archive", changed)
            .ends_with("the checksum of atlas.towns is wrong: the archive is damaged")
    );
    // A length that lies: nothing is allocated on its word.
    for length in [i32::MAX, 4, 0, -2, 17 * 1024 * 1024] {
        let mut lying = whole.clone();
        lying[4..8].copy_from_slice(&length.to_le_bytes());
        let said = told("a.archive", lying);
        assert!(
            said.contains(&format!("says that it has {length} bytes")),
            "{said}"
        );
    }
    let bomb = [&whole[..4], &(16 * 1024 * 1024_i32).to_le_bytes()[..]].concat();
    assert!(told("a.archive", bomb).contains("cut off"));
    let cut = &zipped(&whole)[..60];
    assert!(told("a.archive.gz", cut).starts_with("cannot read the data file a.archive.gz: "));
}

#[test]
fn reading_stops_when_no_more_is_wanted() {
    let mut seen = 0;
    let file = file("a.ndjson", "{}\n{}\n{}\nbroken");
    read(&file, &mut |_| {
        seen += 1;
        if seen == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap();
    assert_eq!(seen, 2);
}

proptest! {
    /// No bytes make a reader panic, loop or allocate; what it says has the file's name.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        name in prop::sample::select(vec!["a.ndjson", "a.json", "a.csv", "a.bson", "a.archive", "a.archive.gz", "a.indexes.json", "a.view.json", "a.validator.json", "a.metadata.json", "a.sql"]),
    ) {
        if let Err(error) = pieces(&file(name, bytes)) {
            prop_assert!(error.to_string().contains(name));
        }
    }

    /// Any byte of an archive may be wrong.
    #[test]
    fn a_changed_archive_gives_other_pieces_or_an_error(at: prop::sample::Index, value: u8) {
        let mut bytes = archive();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = pieces(&file("a.archive", bytes));
    }

    #[test]
    fn every_document_survives_an_archive(texts in proptest::collection::vec(".*", 0..20)) {
        let collection = Collection { name: "a".to_owned(), options: doc! {}, indexes: vec![] };
        let mut archive = ArchiveWriter::begin(Vec::new(), "d", &[collection]).unwrap();
        let mut writer = archive.collection("a").unwrap();
        let all: Vec<Document> = texts.into_iter().map(|text| doc! { "a": text, "b": Bson::Null }).collect();
        for each in &all {
            writer.write(&bson::serialize_to_raw_document_buf(each).unwrap()).unwrap();
        }
        writer.end().unwrap();
        let found: Vec<Document> = documents("a.archive", archive.into_inner()).into_iter().map(|(_, each)| each).collect();
        prop_assert_eq!(found, all);
    }
}
