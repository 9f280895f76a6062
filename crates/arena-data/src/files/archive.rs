//! What `mongodump` writes: folders of `.bson` files, and archives of many
//! collections with their metadata in front. Lengths and checksums are not
//! believed until they are checked; nothing is allocated on their word.
//!
//! An archive: the magic number; a block with a header document and one of
//! metadata for each collection; then blocks of documents, each with a header
//! that names its collection and says, with a checksum, when that one ends. A
//! block ends with −1 in place of a length.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::sync::Arc;

use bson::{Document, RawDocument};

use super::checksum::Crc64;
use super::{DOCUMENT_BYTES_MAX, DataError, Halt, Piece, Sink, Source, declared, pass};

pub(super) const MAGIC: [u8; 4] = 0x8199_e26d_u32.to_le_bytes();
pub(super) const END: [u8; 4] = (-1_i32).to_le_bytes();
/// The smallest document: its length and its end.
const DOCUMENT_BYTES_MIN: usize = 5;
/// MongoDB's own documents may be a little larger than what users may store.
const SLACK: usize = 16 * 1024;
/// Databases of the server itself.
const SYSTEM: [&str; 3] = ["admin", "config", "local"];

/// Reads a `.bson` file.
pub(super) fn dumped(
    source: &Source<'_>,
    collection: &Arc<str>,
    bytes: impl BufRead,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    if collection.starts_with("system.") {
        return Ok(());
    }
    pass(sink(Piece::Collection {
        name: Arc::clone(collection),
        options: Document::new(),
    }))?;
    let mut blocks = Blocks {
        source,
        bytes,
        at: 0,
    };
    while let Some(start) = blocks.start()? {
        let raw = blocks.document(start)?;
        let document = blocks.parsed(&raw)?;
        pass(sink(Piece::Document {
            collection: Arc::clone(collection),
            document,
        }))?;
    }
    Ok(())
}

/// A collection of an archive while it is read.
struct Stream {
    collection: Arc<str>,
    is_wanted: bool,
    checksum: Crc64,
    has_ended: bool,
}

/// Reads an archive.
pub(super) fn read(
    source: &Source<'_>,
    bytes: impl BufRead,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let mut blocks = Blocks {
        source,
        bytes,
        at: 0,
    };
    let magic = blocks.start()?;
    if magic != Some(MAGIC) {
        let reason = "this is no archive of `mongodump --archive`; one made with `--gzip` ends in `.archive.gz`";
        return Err(source.byte(0, reason).into());
    }
    let mut streams = prelude(&mut blocks, sink)?;
    while let Some(start) = blocks.start()? {
        block(&mut blocks, start, &mut streams, sink)?;
    }
    let open = streams.iter().find(|(_, stream)| !stream.has_ended);
    if let Some(((database, _), stream)) = open {
        let reason = format!(
            "the archive ends before {database}.{} does: it was cut off",
            stream.collection
        );
        return Err(source.byte(blocks.at, reason).into());
    }
    Ok(())
}

type Streams = BTreeMap<(String, String), Stream>;

/// Reads what stands in front: which collections there are, and how they are made.
fn prelude(blocks: &mut Blocks<'_, impl BufRead>, sink: &mut Sink<'_>) -> Result<Streams, Halt> {
    let mut streams = Streams::new();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let header = blocks
        .next_in_block()?
        .ok_or_else(|| blocks.wrong("the archive has no header"))?;
    blocks.parsed(&header)?;
    while let Some(raw) = blocks.next_in_block()? {
        let entry = blocks.parsed(&raw)?;
        let (Ok(database), Ok(collection)) = (entry.get_str("db"), entry.get_str("collection"))
        else {
            return Err(blocks
                .wrong("an entry of the archive names no collection")
                .into());
        };
        let is_wanted = !SYSTEM.contains(&database)
            && !database.is_empty()
            && !collection.starts_with("system.");
        let name: Arc<str> = collection.into();
        // A view has no documents, and so no block that says its end.
        let metadata = entry.get_str("metadata").unwrap_or("{}");
        let metadata = if metadata.is_empty() { "{}" } else { metadata };
        let is_view = entry.get_str("type").is_ok_and(|kind| kind == "view")
            || metadata.contains("\"viewOn\"");
        let stream = Stream {
            collection: Arc::clone(&name),
            is_wanted,
            checksum: Crc64::default(),
            has_ended: is_view || !is_wanted,
        };
        streams.insert((database.to_owned(), collection.to_owned()), stream);
        if !is_wanted {
            continue;
        }
        if let Some(other) = owners.insert(collection.to_owned(), database.to_owned()) {
            let reason = format!(
                "the archive has {collection} twice, in {other} and in {database}: dump one database (`mongodump --db`)"
            );
            return Err(blocks.wrong(reason).into());
        }
        declared::metadata(blocks.source, name, metadata, sink)?;
    }
    Ok(streams)
}

/// Reads one block of documents.
fn block(
    blocks: &mut Blocks<'_, impl BufRead>,
    start: [u8; 4],
    streams: &mut Streams,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let raw = blocks.document(start)?;
    let header = blocks.parsed(&raw)?;
    let (Ok(database), Ok(collection)) = (header.get_str("db"), header.get_str("collection"))
    else {
        return Err(blocks
            .wrong("a block of the archive names no collection")
            .into());
    };
    let Some(stream) = streams.get_mut(&(database.to_owned(), collection.to_owned())) else {
        let reason =
            format!("the archive has documents of {database}.{collection}, which it does not list");
        return Err(blocks.wrong(reason).into());
    };
    while let Some(raw) = blocks.next_in_block()? {
        stream.checksum.update(&raw);
        if !stream.is_wanted {
            continue;
        }
        if stream.has_ended {
            let reason = format!("documents of {database}.{collection} come after its end");
            return Err(blocks.wrong(reason).into());
        }
        let document = blocks.parsed(&raw)?;
        pass(sink(Piece::Document {
            collection: Arc::clone(&stream.collection),
            document,
        }))?;
    }
    if header.get_bool("EOF").unwrap_or(false) {
        stream.has_ended = true;
        let told = header.get_i64("CRC").unwrap_or(0);
        if told != stream.checksum.value() {
            let reason =
                format!("the checksum of {database}.{collection} is wrong: the archive is damaged");
            return Err(blocks.wrong(reason).into());
        }
    }
    Ok(())
}

/// Documents one after the other, each with its length in front.
struct Blocks<'a, R> {
    source: &'a Source<'a>,
    bytes: R,
    at: u64,
}

impl<R: BufRead> Blocks<'_, R> {
    /// Reads the first four bytes of what comes; `None` at the end of the file.
    fn start(&mut self) -> Result<Option<[u8; 4]>, DataError> {
        let mut start = Vec::with_capacity(4);
        let read = self.bytes.by_ref().take(4).read_to_end(&mut start);
        let count = read.map_err(|error| self.source.read(&error))?;
        self.at += u64::try_from(count).unwrap_or(0);
        match <[u8; 4]>::try_from(start.as_slice()) {
            Ok(start) => Ok(Some(start)),
            Err(_) if count == 0 => Ok(None),
            Err(_) => Err(self.cut()),
        }
    }

    /// Reads the next document of a block; `None` at the block's end.
    fn next_in_block(&mut self) -> Result<Option<Vec<u8>>, DataError> {
        match self.start()? {
            None => Err(self.cut()),
            Some(END) => Ok(None),
            Some(start) => self.document(start).map(Some),
        }
    }

    /// Reads the rest of a document.
    fn document(&mut self, start: [u8; 4]) -> Result<Vec<u8>, DataError> {
        let told = i32::from_le_bytes(start);
        let length = usize::try_from(told)
            .ok()
            .filter(|length| (DOCUMENT_BYTES_MIN..=DOCUMENT_BYTES_MAX + SLACK).contains(length))
            .ok_or_else(|| {
                self.wrong(format!(
                    "a document says that it has {told} bytes: between {DOCUMENT_BYTES_MIN} and {DOCUMENT_BYTES_MAX} are possible"
                ))
            })?;
        // Grows with what comes, not with what was said.
        let mut raw = start.to_vec();
        let rest = length - start.len();
        let most = u64::try_from(rest).unwrap_or(u64::MAX);
        let read = self.bytes.by_ref().take(most).read_to_end(&mut raw);
        let count = read.map_err(|error| self.source.read(&error))?;
        self.at += u64::try_from(count).unwrap_or(0);
        if count < rest {
            return Err(self.cut());
        }
        Ok(raw)
    }

    fn parsed(&self, raw: &[u8]) -> Result<Document, DataError> {
        let document = RawDocument::from_bytes(raw).and_then(Document::try_from);
        document.map_err(|error| self.wrong(format!("a document cannot be read: {error}")))
    }

    fn cut(&self) -> DataError {
        self.wrong("the file ends in the middle of a document: it was cut off")
    }

    fn wrong(&self, reason: impl Into<String>) -> DataError {
        self.source.byte(self.at, reason)
    }
}

/// Undoes what `mongodump` does to names of collections that are no file names.
pub(super) fn unescaped(stem: &str) -> Arc<str> {
    let mut bytes = Vec::new();
    let mut rest = stem.as_bytes();
    while let [first, more @ ..] = rest {
        let digits = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_collections_are_unescaped() {
        assert_eq!(&*unescaped("a%2Fb%"), "a/b%");
    }
}
