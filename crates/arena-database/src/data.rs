//! The workshop's data files: what each name means, and text into documents.
//!
//! `listings.ndjson`, `listings.json`, `listings.csv` are a collection's
//! documents; `listings.indexes.json` declares its indexes; `cheap.view.json` a
//! view; `*.sql` is run in PostgreSQL's template. Order: as given, indexes and
//! views after all documents.

use bson::{Bson, Document};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// A data file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Path as the author knows it, such as `arena/data/listings.ndjson`.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why a data file cannot be loaded.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum DataError {
    /// Its ending says nothing.
    #[error(
        "the data file {0} is of no known kind: use .ndjson, .json, .csv, .sql, .indexes.json or .view.json"
    )]
    Kind(String),
    /// A line or value cannot be read.
    #[error("{file}, line {line}: {reason}")]
    Line {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Everything that the template holds.
#[derive(Debug, Default)]
pub(crate) struct TemplateData {
    pub(crate) collections: Vec<(String, Vec<Document>)>,
    pub(crate) indexes: Vec<(String, Vec<Document>)>,
    pub(crate) views: Vec<View>,
    /// Name and text, in order.
    pub(crate) sql: Vec<(String, String)>,
}

/// A view of the template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) pipeline: Vec<Bson>,
}

/// Reads all data files.
pub(crate) fn read(files: &[DataFile]) -> Result<TemplateData, DataError> {
    let mut data = TemplateData::default();
    for file in files {
        let base = file.name.rsplit('/').next().unwrap_or(&file.name);
        let stem = base.split('.').next().unwrap_or(base).to_owned();
        let text = std::str::from_utf8(&file.bytes).map_err(|error| {
            let line = file.bytes[..error.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                + 1;
            wrong(file, line, "the file is not UTF-8 text")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if base.ends_with(".indexes.json") {
            data.indexes.push((stem, documents(file, text)?));
        } else if base.ends_with(".view.json") {
            data.views.push(view(file, text, stem)?);
        } else if base.ends_with(".ndjson") || base.ends_with(".jsonl") {
            data.collections.push((stem, lines(file, text)?));
        } else if base.ends_with(".json") {
            data.collections.push((stem, documents(file, text)?));
        } else if base.ends_with(".csv") {
            data.collections.push((stem, table(file, text)?));
        } else if base.ends_with(".sql") {
            data.sql.push((file.name.clone(), text.to_owned()));
        } else {
            return Err(DataError::Kind(file.name.clone()));
        }
    }
    Ok(data)
}

/// Returns the hash by which a template knows that it holds these files.
pub(crate) fn hash<'a>(files: impl IntoIterator<Item = &'a DataFile>) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(
            u64::try_from(file.name.len())
                .unwrap_or(u64::MAX)
                .to_le_bytes(),
        );
        hash.update(&file.name);
        hash.update(
            u64::try_from(file.bytes.len())
                .unwrap_or(u64::MAX)
                .to_le_bytes(),
        );
        hash.update(&file.bytes);
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Returns whether a file is for PostgreSQL.
pub(crate) fn is_sql(file: &DataFile) -> bool {
    file.name.ends_with(".sql")
}

fn wrong(file: &DataFile, line: usize, reason: impl Into<String>) -> DataError {
    DataError::Line {
        file: file.name.clone(),
        line,
        reason: reason.into(),
    }
}

fn lines(file: &DataFile, text: &str) -> Result<Vec<Document>, DataError> {
    let mut documents = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let json: Json = serde_json::from_str(line)
            .map_err(|error| wrong(file, index + 1, error.to_string()))?;
        documents.push(document(file, index + 1, json)?);
    }
    Ok(documents)
}

/// A list of documents, or one.
fn documents(file: &DataFile, text: &str) -> Result<Vec<Document>, DataError> {
    let json: Json =
        serde_json::from_str(text).map_err(|error| wrong(file, error.line(), error.to_string()))?;
    match json {
        Json::Array(items) => items
            .into_iter()
            .map(|item| document(file, 1, item))
            .collect(),
        json => Ok(vec![document(file, 1, json)?]),
    }
}

fn document(file: &DataFile, line: usize, json: Json) -> Result<Document, DataError> {
    match Bson::try_from(json) {
        Ok(Bson::Document(document)) => Ok(document),
        Ok(_) => Err(wrong(file, line, "this is not a document: write `{ … }`")),
        Err(error) => Err(wrong(
            file,
            line,
            format!("this is not extended JSON: {error}"),
        )),
    }
}

fn view(file: &DataFile, text: &str, name: String) -> Result<View, DataError> {
    let found = documents(file, text)?;
    let [view] = found.as_slice() else {
        return Err(wrong(file, 1, "a view is one document"));
    };
    let source = view
        .get_str("viewOn")
        .map_err(|_| wrong(file, 1, "`viewOn` is missing"))?
        .to_owned();
    let pipeline = view
        .get_array("pipeline")
        .map_err(|_| wrong(file, 1, "`pipeline` is missing"))?
        .clone();
    Ok(View {
        name,
        source,
        pipeline,
    })
}

/// A table with a line of names; `name:type` gives a type (`int`, `double`, `bool`, `date`,
/// `decimal`), else what looks like a number is one. An empty field is left out.
fn table(file: &DataFile, text: &str) -> Result<Vec<Document>, DataError> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(false)
        .from_reader(text.as_bytes());
    let header = reader
        .headers()
        .map_err(|error| wrong(file, 1, error.to_string()))?
        .clone();
    let columns: Vec<(&str, &str)> = header
        .iter()
        .map(|name| name.split_once(':').unwrap_or((name, "")))
        .collect();
    let mut documents = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error
                .position()
                .and_then(|place| usize::try_from(place.line()).ok())
                .unwrap_or(1);
            wrong(file, line, error.to_string())
        })?;
        let line = record
            .position()
            .and_then(|place| usize::try_from(place.line()).ok())
            .unwrap_or(1);
        let mut document = Document::new();
        for ((name, kind), field) in columns
            .iter()
            .zip(&record)
            .filter(|(_, field)| !field.is_empty())
        {
            let value = typed(kind, field).ok_or_else(|| {
                wrong(
                    file,
                    line,
                    format!("`{field}` in the column {name} is no {kind}"),
                )
            })?;
            document.insert(*name, value);
        }
        documents.push(document);
    }
    Ok(documents)
}

fn typed(kind: &str, field: &str) -> Option<Bson> {
    match kind {
        "string" | "text" => Some(Bson::String(field.to_owned())),
        "int" => field
            .parse()
            .map(Bson::Int32)
            .or_else(|_| field.parse().map(Bson::Int64))
            .ok(),
        "double" => field.parse().map(Bson::Double).ok(),
        "decimal" => field.parse().map(Bson::Decimal128).ok(),
        "bool" => field.parse().map(Bson::Boolean).ok(),
        "date" => {
            let text = if field.len() == 10 {
                format!("{field}T00:00:00Z")
            } else {
                field.to_owned()
            };
            bson::DateTime::parse_rfc3339_str(text)
                .map(Bson::DateTime)
                .ok()
        }
        "" => Some(
            typed("int", field)
                .or_else(|| typed("double", field))
                .unwrap_or_else(|| Bson::String(field.to_owned())),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> DataFile {
        DataFile {
            name: name.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn each_kind_of_file_is_read() {
        let files = [
            file(
                "arena/data/listings.ndjson",
                "{\"_id\":\"1\",\"price\":{\"$numberDecimal\":\"9.50\"}}\n\n{\"_id\":\"2\"}\n",
            ),
            file(
                "arena/data/towns.csv",
                "name,people:int,since:date\nBergen,285000,1070-01-01\n\"Aa, B\",,\n",
            ),
            file(
                "arena/data/listings.indexes.json",
                "[{\"key\":{\"town\":1},\"name\":\"town_1\"}]",
            ),
            file(
                "arena/data/cheap.view.json",
                "{\"viewOn\":\"listings\",\"pipeline\":[]}",
            ),
            file("arena/data/listings.sql", "SELECT 1;"),
        ];
        let data = read(&files).unwrap();
        assert_eq!(data.collections[0].1.len(), 2);
        assert!(matches!(
            data.collections[0].1[0].get("price"),
            Some(Bson::Decimal128(_))
        ));
        assert_eq!(data.collections[1].1[0].get_i32("people").unwrap(), 285_000);
        assert_eq!(data.collections[1].1[1].len(), 1);
        assert_eq!(data.views[0].source, "listings");
        assert_eq!(data.indexes[0].0, "listings");
        assert_eq!(data.sql.len(), 1);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let told = |name: &str, text: &str| read(&[file(name, text)]).unwrap_err().to_string();
        assert!(told("a.ndjson", "{}\n{\n").starts_with("a.ndjson, line 2: "));
        assert_eq!(
            told("a.ndjson", "3"),
            "a.ndjson, line 1: this is not a document: write `{ … }`"
        );
        assert_eq!(
            told("a.csv", "n:int\nx\n"),
            "a.csv, line 2: `x` in the column n is no int"
        );
        assert!(told("a.txt", "").contains("of no known kind"));
    }
}
