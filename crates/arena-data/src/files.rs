//! An author's data files: what each name means, and their contents as
//! [`Piece`]s, one after the other. A file may be larger than memory: only one
//! document of it is held at a time, and none may be larger than MongoDB takes.
//!
//! `listings.ndjson`, `.json`, `.csv`, `.bson` are a collection's documents;
//! `.indexes.json` declares its indexes, `.validator.json` what it accepts,
//! `.metadata.json` (as `mongodump` writes it) both; `.view.json` is a view;
//! `.archive` is what `mongodump --archive` writes; `.sql` is for PostgreSQL.
//! Each of them may be compressed (`.gz`). Begin at [`read`].

mod archive;
mod checksum;
mod declared;
mod documents;
mod table;
mod write;

pub use write::{ArchiveWriter, Collection, CollectionWriter};

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bson::{Bson, Document};
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::set::DataSet;

/// What MongoDB takes at most.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A file of SQL is sent as one text.
const SQL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// A file with indexes, a view or a validator.
const DECLARED_BYTES_MAX: u64 = 16 * 1024 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// A data file, or a data set in place of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Path as the author knows it, such as `arena/data/listings.ndjson`; its ending says what it is.
    pub name: String,
    /// What is in it.
    pub content: Content,
}

/// Where a data file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Here.
    Bytes(Vec<u8>),
    /// On disk; read when it is needed.
    File(PathBuf),
    /// Nowhere: it is made. For MongoDB its documents, for PostgreSQL its tables.
    Set(DataSet),
}

impl DataFile {
    /// Returns a file whose bytes are known.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            content: Content::Bytes(bytes.into()),
        }
    }

    /// Returns a file that is read from disk.
    pub fn on_disk(name: impl Into<String>, path: PathBuf) -> Self {
        Self {
            name: name.into(),
            content: Content::File(path),
        }
    }

    /// Returns a data set as if it were a file.
    pub fn set(set: DataSet) -> Self {
        Self {
            name: format!("data set {set}"),
            content: Content::Set(set),
        }
    }

    /// Returns whether it only declares how collections are made: it is read before documents are.
    pub fn is_declaration(&self) -> bool {
        use Kind::{Indexes, Metadata, Validator, View};
        matches!(
            Kind::of(&self.name),
            Some(Indexes | Metadata | Validator | View)
        )
    }

    /// Returns whether it holds something for PostgreSQL.
    pub fn is_for_postgres(&self) -> bool {
        matches!(self.content, Content::Set(_)) || Kind::of(&self.name) == Some(Kind::Sql)
    }

    /// Returns whether it holds something for MongoDB.
    pub fn is_for_mongodb(&self) -> bool {
        matches!(self.content, Content::Set(_)) || Kind::of(&self.name) != Some(Kind::Sql)
    }
}

/// Returns whether a file's name says that it is data for MongoDB, for PostgreSQL, or neither.
pub fn is_data_file(name: &str, postgres: bool) -> bool {
    Kind::of(name).is_some_and(|kind| (kind == Kind::Sql) == postgres)
}

/// Why a data file cannot be loaded.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum DataError {
    /// Its ending says nothing.
    #[error(
        "the data file {0} is of no known kind: use .ndjson, .json, .csv, .bson, .archive, .indexes.json, \
         .validator.json, .view.json or .sql, each with .gz behind it or not"
    )]
    Kind(String),
    /// It cannot be opened or read to its end.
    #[error("cannot read the data file {file}: {reason}")]
    Read {
        /// The file.
        file: String,
        /// What the system, or the decompressor, says.
        reason: String,
    },
    /// A line or value cannot be understood.
    #[error("{file}, line {line}: {reason}")]
    Line {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Something in a file of BSON cannot be understood.
    #[error("{file}, at byte {at}: {reason}")]
    Byte {
        /// The file.
        file: String,
        /// From 0, after decompression.
        at: u64,
        /// What is wrong.
        reason: String,
    },
}

/// One thing of a data file.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A collection that there must be, and what `create` is told about it (often nothing).
    Collection {
        /// Its name.
        name: Arc<str>,
        /// Validator, collation and the like.
        options: Document,
    },
    /// A document.
    Document {
        /// Its collection.
        collection: Arc<str>,
        /// Itself.
        document: Document,
    },
    /// Indexes of a collection as `createIndexes` takes them.
    Indexes {
        /// The collection.
        collection: Arc<str>,
        /// Each with `key` and often `name`.
        indexes: Vec<Document>,
    },
    /// A view, with everything that `create` takes.
    View {
        /// Its name.
        name: Arc<str>,
        /// `viewOn`, `pipeline`, perhaps `collation`.
        options: Document,
    },
    /// Statements for PostgreSQL.
    Sql(String),
}

/// Takes pieces; breaks when it wants no more.
pub(crate) type Sink<'a> = dyn FnMut(Piece) -> ControlFlow<()> + 'a;

/// How reading one file ended early.
pub(crate) enum Halt {
    Wrong(DataError),
    Enough,
}

impl From<DataError> for Halt {
    fn from(error: DataError) -> Self {
        Self::Wrong(error)
    }
}

pub(crate) fn pass(flow: ControlFlow<()>) -> Result<(), Halt> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Halt::Enough),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lines,
    Json,
    Csv,
    Bson,
    Archive,
    Indexes,
    Validator,
    View,
    Metadata,
    Sql,
    /// Written by `mongodump` beside its files; says nothing about data.
    Prelude,
}

/// Endings, longer ones before those that they end in.
const ENDINGS: &[(&str, Kind)] = &[
    (".indexes.json", Kind::Indexes),
    (".validator.json", Kind::Validator),
    (".view.json", Kind::View),
    (".metadata.json", Kind::Metadata),
    (".ndjson", Kind::Lines),
    (".jsonl", Kind::Lines),
    (".json", Kind::Json),
    (".csv", Kind::Csv),
    (".bson", Kind::Bson),
    (".archive", Kind::Archive),
    (".sql", Kind::Sql),
];

impl Kind {
    fn of(name: &str) -> Option<Self> {
        split(name).map(|(_, kind)| kind)
    }
}

/// Splits a file's name into what it is called and its kind.
fn split(name: &str) -> Option<(&str, Kind)> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let base = base.strip_suffix(".gz").unwrap_or(base);
    if base == "prelude.json" {
        return Some((base, Kind::Prelude));
    }
    ENDINGS.iter().find_map(|(ending, kind)| {
        let stem = base.strip_suffix(ending)?;
        (!stem.is_empty()).then_some((stem, *kind))
    })
}

/// A file that is being read, for its messages.
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
}

impl Source<'_> {
    pub(crate) fn line(&self, line: usize, reason: impl Into<String>) -> DataError {
        DataError::Line {
            file: self.name.to_owned(),
            line,
            reason: reason.into(),
        }
    }

    pub(crate) fn byte(&self, at: u64, reason: impl Into<String>) -> DataError {
        DataError::Byte {
            file: self.name.to_owned(),
            at,
            reason: reason.into(),
        }
    }

    pub(crate) fn read(&self, error: &std::io::Error) -> DataError {
        DataError::Read {
            file: self.name.to_owned(),
            reason: error.to_string(),
        }
    }
}

/// Reads a file piece by piece until its end, or until `sink` wants no more.
///
/// # Errors
/// When it cannot be read, or something in it cannot be understood; pieces before it were given.
pub fn read(
    file: &DataFile,
    sink: &mut dyn FnMut(Piece) -> ControlFlow<()>,
) -> Result<(), DataError> {
    match read_pieces(file, sink) {
        Ok(()) | Err(Halt::Enough) => Ok(()),
        Err(Halt::Wrong(error)) => Err(error),
    }
}

fn read_pieces(file: &DataFile, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let source = Source { name: &file.name };
    let bytes: Box<dyn BufRead + '_> = match &file.content {
        Content::Set(set) => return made(set, sink),
        Content::Bytes(bytes) => Box::new(bytes.as_slice()),
        Content::File(path) => {
            let opened = File::open(path).map_err(|error| source.read(&error))?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, opened))
        }
    };
    let bytes: Box<dyn BufRead + '_> = if file.name.ends_with(".gz") {
        Box::new(BufReader::with_capacity(
            BUFFER_BYTES,
            MultiGzDecoder::new(bytes),
        ))
    } else {
        bytes
    };
    let (stem, kind) = split(&file.name).ok_or_else(|| DataError::Kind(file.name.clone()))?;
    let name: Arc<str> = stem.into();
    match kind {
        Kind::Lines => documents::lines(&source, &name, without_mark(bytes, &source)?, sink),
        Kind::Json => documents::values(&source, &name, without_mark(bytes, &source)?, sink),
        Kind::Csv => table::read(&source, &name, without_mark(bytes, &source)?, sink),
        Kind::Bson => archive::dumped(&source, &archive::unescaped(stem), bytes, sink),
        Kind::Archive => archive::read(&source, bytes, sink),
        Kind::Prelude => Ok(()),
        Kind::Indexes => declared::indexes(&source, name, &text(bytes, &source)?, sink),
        Kind::Validator => declared::validator(&source, name, &text(bytes, &source)?, sink),
        Kind::View => declared::view(&source, name, &text(bytes, &source)?, sink),
        Kind::Metadata => {
            let name = archive::unescaped(stem);
            declared::metadata(&source, name, &text(bytes, &source)?, sink)
        }
        Kind::Sql => pass(sink(Piece::Sql(limited(bytes, &source, SQL_BYTES_MAX)?))),
    }
}

fn made(set: &DataSet, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let collection: Arc<str> = set.collection().into();
    for document in set.collection_documents() {
        let collection = Arc::clone(&collection);
        pass(sink(Piece::Document {
            collection,
            document,
        }))?;
    }
    for statement in set.sql() {
        pass(sink(Piece::Sql(statement)))?;
    }
    Ok(())
}

/// Skips a byte order mark, which some spreadsheets write.
fn without_mark<'a>(
    mut bytes: Box<dyn BufRead + 'a>,
    source: &Source<'_>,
) -> Result<Box<dyn BufRead + 'a>, DataError> {
    let begin = bytes.fill_buf().map_err(|error| source.read(&error))?;
    if begin.starts_with(b"\xef\xbb\xbf") {
        bytes.consume(3);
    }
    Ok(bytes)
}

fn text(bytes: Box<dyn BufRead + '_>, source: &Source<'_>) -> Result<String, DataError> {
    limited(bytes, source, DECLARED_BYTES_MAX)
}

/// Reads a whole text.
fn limited(
    bytes: Box<dyn BufRead + '_>,
    source: &Source<'_>,
    most: u64,
) -> Result<String, DataError> {
    let mut all = Vec::new();
    without_mark(bytes, source)?
        .take(most + 1)
        .read_to_end(&mut all)
        .map_err(|error| source.read(&error))?;
    if u64::try_from(all.len()).unwrap_or(u64::MAX) > most {
        let reason = format!("the file is larger than {} MiB: split it", most >> 20);
        return Err(source.line(1, reason));
    }
    String::from_utf8(all).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        source.line(line, "the file is not UTF-8 text")
    })
}

/// Turns JSON into a document.
pub(crate) fn document(
    source: &Source<'_>,
    line: usize,
    json: serde_json::Value,
) -> Result<Document, DataError> {
    match Bson::try_from(json) {
        Ok(Bson::Document(document)) => Ok(document),
        Ok(_) => Err(source.line(line, "this is not a document: write `{ … }`")),
        Err(error) => Err(source.line(line, format!("this is not extended JSON: {error}"))),
    }
}

/// Returns the hash by which a template knows that it holds these files.
///
/// # Errors
/// When a file cannot be read.
pub fn hash<'a>(files: impl IntoIterator<Item = &'a DataFile>) -> Result<String, DataError> {
    let mut hash = Sha256::new();
    for file in files {
        let mut of_file = Sha256::new();
        match &file.content {
            Content::Bytes(bytes) => of_file.update(bytes),
            Content::Set(set) => of_file.update(set.to_string()),
            Content::File(path) => {
                let source = Source { name: &file.name };
                let read = File::open(path).and_then(|mut open| {
                    let mut buffer = vec![0; BUFFER_BYTES];
                    loop {
                        match open.read(&mut buffer)? {
                            0 => return Ok(()),
                            count => of_file.update(&buffer[..count]),
                        }
                    }
                });
                read.map_err(|error| source.read(&error))?;
            }
        }
        hash.update(Sha256::digest(&file.name));
        hash.update(of_file.finalize());
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
