//! Tables as CSV: a line of names, then a document on each line. `name:type`
//! gives a type, else what looks like a number is one. An empty field is left
//! out; a point in a name makes an inner document.

use std::io::BufRead;
use std::sync::Arc;

use bson::{Bson, DateTime, Document, oid::ObjectId};

use super::{DataError, Halt, Piece, Sink, Source, pass};

/// Types that a column may have.
const TYPES: [&str; 10] = [
    "string", "text", "int", "long", "double", "decimal", "bool", "date", "objectid", "json",
];

/// A column.
struct Column {
    path: Vec<String>,
    name: String,
    kind: String,
}

pub(super) fn read(
    source: &Source<'_>,
    collection: &Arc<str>,
    bytes: impl BufRead,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    pass(sink(Piece::Collection {
        name: Arc::clone(collection),
        options: Document::new(),
    }))?;
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(bytes);
    let header = reader
        .headers()
        .map_err(|error| wrong(source, &error))?
        .clone();
    let columns = columns(source, &header)?;
    for record in reader.records() {
        let record = record.map_err(|error| wrong(source, &error))?;
        let line = record.position().map_or(1, line_of);
        let mut document = Document::new();
        for (column, field) in columns
            .iter()
            .zip(&record)
            .filter(|(_, field)| !field.is_empty())
        {
            let value = typed(&column.kind, field).ok_or_else(|| {
                source.line(
                    line,
                    format!(
                        "`{field}` in the column {} is no {}",
                        column.name, column.kind
                    ),
                )
            })?;
            put(&mut document, &column.path, value);
        }
        pass(sink(Piece::Document {
            collection: Arc::clone(collection),
            document,
        }))?;
    }
    Ok(())
}

fn columns(source: &Source<'_>, header: &csv::StringRecord) -> Result<Vec<Column>, DataError> {
    let mut columns: Vec<Column> = Vec::new();
    for name in header {
        let (name, kind) = name.split_once(':').unwrap_or((name, ""));
        let (name, kind) = (name.trim(), kind.trim().to_ascii_lowercase());
        if !kind.is_empty() && !TYPES.contains(&kind.as_str()) {
            let reason = format!(
                "the column {name} has the type `{kind}`; there are: {}",
                TYPES.join(", ")
            );
            return Err(source.line(1, reason));
        }
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) || name.contains('\0') {
            return Err(source.line(1, format!("a column has no name, or a name like `{name}`")));
        }
        let clashes =
            |other: &Column| other.path.starts_with(&path) || path.starts_with(&other.path);
        if columns.iter().any(clashes) {
            return Err(source.line(
                1,
                format!("the column {name} is there twice, or is part of another"),
            ));
        }
        columns.push(Column {
            path,
            name: name.to_owned(),
            kind,
        });
    }
    Ok(columns)
}

fn put(document: &mut Document, path: &[String], value: Bson) {
    match path {
        [] => {}
        [name] => {
            document.insert(name, value);
        }
        [name, rest @ ..] => {
            if document.get_document(name).is_err() {
                document.insert(name, Document::new());
            }
            if let Ok(inner) = document.get_document_mut(name) {
                put(inner, rest, value);
            }
        }
    }
}

fn wrong(source: &Source<'_>, error: &csv::Error) -> DataError {
    if let csv::ErrorKind::Io(error) = error.kind() {
        return source.read(error);
    }
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("the line has {len} fields, the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "the file is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    source.line(error.position().map_or(1, line_of), reason)
}

fn line_of(place: &csv::Position) -> usize {
    usize::try_from(place.line()).unwrap_or(usize::MAX)
}

fn typed(kind: &str, field: &str) -> Option<Bson> {
    match kind {
        "string" | "text" => Some(Bson::String(field.to_owned())),
        "int" => field
            .parse()
            .map(Bson::Int32)
            .or_else(|_| field.parse().map(Bson::Int64))
            .ok(),
        "long" => field.parse().map(Bson::Int64).ok(),
        "double" => field.parse().map(Bson::Double).ok(),
        "decimal" => field.parse().map(Bson::Decimal128).ok(),
        "bool" => field.parse().map(Bson::Boolean).ok(),
        "objectid" => ObjectId::parse_str(field).map(Bson::ObjectId).ok(),
        "json" => Bson::try_from(serde_json::from_str::<serde_json::Value>(field).ok()?).ok(),
        "date" => {
            let text = if field.len() == 10 {
                format!("{field}T00:00:00Z")
            } else {
                field.to_owned()
            };
            DateTime::parse_rfc3339_str(text).map(Bson::DateTime).ok()
        }
        // A leading zero is a postcode, and `nan` is a name.
        "" => Some(
            looks_like_number(field)
                .then(|| typed("int", field).or_else(|| typed("double", field)))
                .flatten()
                .unwrap_or_else(|| Bson::String(field.to_owned())),
        ),
        _ => None,
    }
}

fn looks_like_number(field: &str) -> bool {
    let digits = field.strip_prefix('-').unwrap_or(field);
    let first = digits
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_digit());
    let is_padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    first && !is_padded
}
