//! Documents as JSON: one on each line, or values that may span lines (a list of
//! documents, or documents one after the other).

use std::io::{BufRead, Read};
use std::sync::Arc;

use serde_json::Value as Json;

use super::{DOCUMENT_BYTES_MAX, DataError, Halt, Piece, Sink, Source, document, pass};

/// JSON of a document is longer than its BSON, but not by that much.
const JSON_BYTES_MAX: usize = 4 * DOCUMENT_BYTES_MAX;
/// MongoDB takes a hundred; the parser must not run out of stack before it says so.
const DEPTH_MAX: usize = 120;

/// A document on each line.
pub(super) fn lines(
    source: &Source<'_>,
    collection: &Arc<str>,
    mut bytes: impl BufRead,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    announce(collection, sink)?;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let most = u64::try_from(JSON_BYTES_MAX).unwrap_or(u64::MAX);
        let read = bytes.by_ref().take(most).read_until(b'\n', &mut line);
        if read.map_err(|error| source.read(&error))? == 0 {
            break;
        }
        if line.len() >= JSON_BYTES_MAX {
            return Err(source.line(number, too_large()).into());
        }
        if !line.trim_ascii().is_empty() {
            give(source, collection, number, line.trim_ascii_end(), sink)?;
        }
    }
    Ok(())
}

/// Values, and lists of them.
pub(super) fn values(
    source: &Source<'_>,
    collection: &Arc<str>,
    bytes: impl BufRead,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    announce(collection, sink)?;
    let mut cutter = Cutter::default();
    for byte in bytes.bytes() {
        let byte = byte.map_err(|error| source.read(&error))?;
        if cutter.take(byte, source)? {
            give(source, collection, cutter.begun, &cutter.value, sink)?;
            cutter.value.clear();
        }
    }
    cutter.end(source).map_err(Halt::from)
}

fn announce(collection: &Arc<str>, sink: &mut Sink<'_>) -> Result<(), Halt> {
    pass(sink(Piece::Collection {
        name: Arc::clone(collection),
        options: bson::Document::new(),
    }))
}

fn give(
    source: &Source<'_>,
    collection: &Arc<str>,
    line: usize,
    text: &[u8],
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let json: Json = serde_json::from_slice(text).map_err(|error| {
        let line = line + error.line().saturating_sub(1);
        source.line(line, message(&error))
    })?;
    let document = document(source, line, json)?;
    let size = bson::RawDocumentBuf::try_from(&document)
        .map_err(|error| source.line(line, error.to_string()))?
        .as_bytes()
        .len();
    if size > DOCUMENT_BYTES_MAX {
        return Err(source.line(line, too_large()).into());
    }
    pass(sink(Piece::Document {
        collection: Arc::clone(collection),
        document,
    }))
}

/// Its own place is that inside the value: ours stands in front.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => format!("{} (column {})", &text[..end], error.column()),
        None => text,
    }
}

fn too_large() -> String {
    format!(
        "the document is larger than the {} MiB that MongoDB takes",
        DOCUMENT_BYTES_MAX >> 20
    )
}

/// Cuts a text into its values at the top, or in one list at the top, without understanding them.
#[derive(Default)]
struct Cutter {
    value: Vec<u8>,
    line: usize,
    /// Line on which the value began.
    begun: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
    list: List,
    /// After a value in a list there must be a comma or the end.
    wants_comma: bool,
}

#[derive(Default, PartialEq)]
enum List {
    #[default]
    None,
    Open,
    Closed,
}

impl Cutter {
    /// Takes a byte; returns whether a value is complete.
    fn take(&mut self, byte: u8, source: &Source<'_>) -> Result<bool, DataError> {
        self.line = self.line.max(1);
        let line = self.line;
        self.line += usize::from(byte == b'\n');
        if self.depth == 0 {
            return self.between(byte, line, source).map(|()| false);
        }
        self.value.push(byte);
        if self.value.len() > JSON_BYTES_MAX {
            return Err(source.line(self.begun, too_large()));
        }
        if self.in_text {
            self.in_text = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return Ok(false);
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        if self.depth > DEPTH_MAX {
            return Err(source.line(
                line,
                "the document is nested too deeply: MongoDB takes 100 levels",
            ));
        }
        self.wants_comma = self.depth == 0;
        Ok(self.depth == 0)
    }

    fn between(&mut self, byte: u8, line: usize, source: &Source<'_>) -> Result<(), DataError> {
        let is_list = self.list == List::Open;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'[' if self.list == List::None && !self.wants_comma => self.list = List::Open,
            b']' if is_list => self.list = List::Closed,
            b',' if is_list && self.wants_comma => self.wants_comma = false,
            b'{' if self.list != List::Closed && !(is_list && self.wants_comma) => {
                self.value.push(byte);
                self.depth = 1;
                self.begun = line;
            }
            _ if self.list == List::Closed => {
                return Err(source.line(line, "there is something behind the end of the list"));
            }
            _ if is_list && self.wants_comma => {
                return Err(source.line(
                    line,
                    "between two documents of a list there must be a comma",
                ));
            }
            _ => return Err(source.line(line, "this is not a document: write `{ … }`")),
        }
        Ok(())
    }

    fn end(&self, source: &Source<'_>) -> Result<(), DataError> {
        if self.depth > 0 {
            return Err(source.line(self.begun, "the document that begins here does not end"));
        }
        if self.list == List::Open {
            return Err(source.line(self.line.max(1), "the list does not end: `]` is missing"));
        }
        Ok(())
    }
}
