//! Text → tree, on the events of `saphyr-parser`, with a bound on everything.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span as EventSpan, Tag};

use super::{Entry, Node, Scalar, Value};
use crate::source::{Problems, SourceFile, Span};

/// A file larger than this is refused unread.
pub const SIZE_MAX_BYTES: usize = 1024 * 1024;
/// Lists and mappings may nest this deep.
pub const DEPTH_MAX: usize = 64;
/// Values a file may hold.
pub const NODES_MAX: usize = 100_000;
/// Values that anchors and aliases may copy altogether ("billion laughs").
pub const ALIAS_NODES_MAX: usize = 10_000;
/// A file that mixes in tabs has many; this many are shown.
const TABS_SHOWN_MAX: usize = 10;

/// Reads a file's text into a tree. `None` when the text is no YAML that we read; the reasons,
/// and duplicate keys, are in `problems`. An empty file is a null [`Node`].
pub fn parse(file: &SourceFile, problems: &mut Problems) -> Option<Node> {
    let (text, skipped) = text_of(file, problems)?;
    let places = Places::new(text, skipped);
    let mut builder = Builder {
        file,
        places,
        problems,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        root: None,
        nodes: 0,
        copied: 0,
    };
    let mut events = Parser::new_from_str(text);
    while let Some(event) = events.next_event() {
        match event {
            Ok((event, span)) => builder.take(event, span).ok()?,
            Err(error) => {
                builder.syntax_error(text, *error.marker(), error.info());
                return None;
            }
        }
    }
    let span = Span {
        line: 1,
        column: 1,
        ..Span::default()
    };
    let nothing = Value::Scalar(Scalar {
        text: String::new(),
        is_quoted: false,
    });
    Some(builder.root.unwrap_or(Node {
        span,
        value: nothing,
    }))
}

/// Returns the text without a byte order mark, and the mark's length in bytes. A file that is too
/// large, no UTF-8 or full of control characters is reported.
pub(crate) fn text_of<'a>(
    file: &'a SourceFile,
    problems: &mut Problems,
) -> Option<(&'a str, usize)> {
    let start = Span {
        line: 1,
        column: 1,
        ..Span::default()
    };
    if file.bytes.len() > SIZE_MAX_BYTES {
        let message = format!(
            "the file has {} bytes; at most {SIZE_MAX_BYTES} are read",
            file.bytes.len()
        );
        problems.push(
            file.error(start, message)
                .hint("is this the right file? It should be a few kilobytes"),
        );
        return None;
    }
    if file.bytes.starts_with(&[0xFF, 0xFE]) || file.bytes.starts_with(&[0xFE, 0xFF]) {
        problems.push(
            file.error(start, "the file is UTF-16")
                .hint("save it as UTF-8"),
        );
        return None;
    }
    let (bytes, skipped) = match file.bytes.strip_prefix(b"\xEF\xBB\xBF") {
        Some(rest) => (rest, 3),
        None => (&*file.bytes, 0),
    };
    let (message, offset) = match std::str::from_utf8(bytes) {
        Err(error) => ("the file is not UTF-8 text", error.valid_up_to()),
        Ok(text) => match text
            .find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}'))
        {
            Some(offset) => ("the file holds a control character", offset),
            None => return Some((text, skipped)),
        },
    };
    let before = String::from_utf8_lossy(&bytes[..offset]);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let span = Span {
        start: offset + skipped,
        end: offset + skipped + 1,
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    };
    problems.push(
        file.error(span, message)
            .hint("save the file as UTF-8 text; is this the right file?"),
    );
    None
}

/// Turns the parser's character counts into byte offsets.
struct Places {
    /// Byte offset of each character, only where they differ from the count.
    offsets: Option<Vec<usize>>,
    skipped: usize,
    length: usize,
}

impl Places {
    fn new(text: &str, skipped: usize) -> Self {
        let offsets =
            (!text.is_ascii()).then(|| text.char_indices().map(|(offset, _)| offset).collect());
        Self {
            offsets,
            skipped,
            length: text.len(),
        }
    }

    fn byte(&self, index: usize) -> usize {
        let offset = match &self.offsets {
            Some(offsets) => offsets.get(index).copied().unwrap_or(self.length),
            None => index.min(self.length),
        };
        offset + self.skipped
    }

    fn span(&self, start: Marker, end: Marker) -> Span {
        Span {
            start: self.byte(start.index()),
            end: self.byte(end.index().max(start.index())),
            line: start.line().max(1),
            column: start.col() + 1,
        }
    }
}

/// A list or mapping whose end has not come yet.
struct Open {
    span: Span,
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<Entry>,
        key: Option<(String, Span)>,
        lines: BTreeMap<String, usize>,
    },
}

/// An error was reported after which reading on makes no sense.
struct Stopped;

struct Builder<'a> {
    file: &'a SourceFile,
    places: Places,
    problems: &'a mut Problems,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    copied: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: EventSpan) -> Result<(), Stopped> {
        let span = self.places.span(span.start, span.end);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                let problem = self.file.error(span, "a second document begins here");
                self.stop(problem.hint("keep one document in the file: remove the `---` line"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Scalar(text, style, anchor, tag) => {
                let is_quoted =
                    style != ScalarStyle::Plain || self.is_text_tag(tag.as_deref(), span)?;
                let value = Value::Scalar(Scalar {
                    text: text.into_owned(),
                    is_quoted,
                });
                self.place(Node { span, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_text_tag(tag.as_deref(), span)?;
                self.begin(span, anchor, Content::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.is_text_tag(tag.as_deref(), span)?;
                self.begin(
                    span,
                    anchor,
                    Content::Mapping {
                        entries: Vec::new(),
                        key: None,
                        lines: BTreeMap::new(),
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, span),
        }
    }

    fn stop(&mut self, problem: crate::Problem) -> Result<(), Stopped> {
        self.problems.push(problem);
        Err(Stopped)
    }

    /// Returns whether a tag says "text"; any tag outside YAML's own is refused.
    fn is_text_tag(&mut self, tag: Option<&Tag>, span: Span) -> Result<bool, Stopped> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix != "binary" => {
                Ok(tag.suffix == "str")
            }
            Some(_) => {
                let problem = self
                    .file
                    .error(span, "the tag (`!…`) before this value means nothing here");
                self.stop(problem.hint("remove the tag")).map(|()| false)
            }
        }
    }

    fn begin(&mut self, span: Span, anchor: usize, content: Content) -> Result<(), Stopped> {
        if self.open.len() >= DEPTH_MAX {
            let problem = self
                .file
                .error(span, format!("values nest deeper than {DEPTH_MAX} levels"));
            return self.stop(problem.hint("is this the right file?"));
        }
        self.open.push(Open {
            span,
            anchor,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stopped> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping { entries, .. } => Value::Mapping(merged(entries)),
        };
        self.place(
            Node {
                span: open.span,
                value,
            },
            open.anchor,
        )
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stopped> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            let problem = self.file.error(
                span,
                "this alias (`*…`) lies inside the value that it names",
            );
            return self.stop(problem.hint("write the value out"));
        };
        let (count, depth) = node.measure();
        self.copy(count, span)?;
        if self.open.len() + depth > DEPTH_MAX {
            let problem = self
                .file
                .error(span, format!("values nest deeper than {DEPTH_MAX} levels"));
            return self.stop(problem.hint("write the value out"));
        }
        self.place(node, 0)
    }

    /// Counts values that anchors and aliases copy.
    fn copy(&mut self, count: usize, span: Span) -> Result<(), Stopped> {
        self.copied += count;
        if self.copied <= ALIAS_NODES_MAX {
            return Ok(());
        }
        let problem = self.file.error(
            span,
            format!("anchors and aliases grow to more than {ALIAS_NODES_MAX} values"),
        );
        self.stop(problem.hint("write the values out instead of naming them with `&` and `*`"))
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Stopped> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let problem = self.file.error(
                node.span,
                format!("the file holds more than {NODES_MAX} values"),
            );
            return self.stop(problem.hint("is this the right file?"));
        }
        if anchor > 0 {
            self.copy(node.measure().0, node.span)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::Sequence(items)) => items.push(node),
            Some(Content::Mapping {
                entries,
                key,
                lines,
            }) => match key.take() {
                Some((name, key_span)) => {
                    if let Some(line) = lines.get(&name) {
                        let message = format!("the key `{name}` is given twice");
                        let hint = format!("the first one is on line {line}; keep one of them");
                        self.problems
                            .push(self.file.error(key_span, message).hint(hint));
                    } else {
                        lines.insert(name.clone(), key_span.line);
                        entries.push(Entry {
                            key: name,
                            key_span,
                            value: node,
                        });
                    }
                }
                None => match node.value {
                    Value::Scalar(ref scalar) if !scalar.is_null() => {
                        *key = Some((scalar.text.clone(), node.span))
                    }
                    _ => {
                        let problem = self.file.error(node.span, "this cannot be a key");
                        return self.stop(problem.hint("a key is a word followed by a colon and a space; quote text that contains `{`, `[` or `?`"));
                    }
                },
            },
        }
        Ok(())
    }

    /// Reports what the parser found; tabs are its most frequent hidden cause.
    fn syntax_error(&mut self, text: &str, marker: Marker, info: &str) {
        let mut offset = self.places.skipped;
        let mut tabs = Vec::new();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
            if let Some(tab) = line[..indent].find('\t')
                && !line.trim().is_empty()
            {
                tabs.push(Span {
                    start: offset + tab,
                    end: offset + indent,
                    line: index + 1,
                    column: tab + 1,
                });
            }
            offset += line.len();
        }
        for span in tabs.iter().take(TABS_SHOWN_MAX) {
            self.problems.push(
                self.file
                    .error(*span, "a tab indents this line")
                    .hint("YAML is indented with spaces: replace the tab by two spaces"),
            );
        }
        if tabs.is_empty() {
            let span = self.places.span(marker, marker);
            let problem = self.file.error(span, format!("this is not YAML: {info}"));
            self.problems.push(problem.hint(
                "look at this line and the one above: is the indentation the same as its neighbours', does a colon follow the key, is every quote and bracket closed?",
            ));
        }
    }
}

/// Lays mappings named by `<<` under the entries beside them, as YAML 1.1 had it.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if entries.iter().all(|entry| entry.key != "<<") {
        return entries;
    }
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| {
        entry.key == "<<"
            && (matches!(entry.value.value, Value::Mapping(_))
                || entry
                    .value
                    .items()
                    .iter()
                    .all(|item| !item.entries().is_empty()))
    });
    for merge in merges {
        let sources = match merge.value.value {
            Value::Sequence(items) => items,
            value => vec![Node {
                span: merge.value.span,
                value,
            }],
        };
        for entry in sources.iter().flat_map(Node::entries) {
            if own.iter().all(|existing| existing.key != entry.key) {
                own.push(entry.clone());
            }
        }
    }
    own
}
