//! `user_list.csv` and spare seats: who sits where.
//!
//! A seat's id is the part of the e-mail address before `@`, made a label; it
//! becomes a host name, a database and a role, so it is unique and never one
//! of [`RESERVED`]. What is numbered, cut or skipped is said in a warning.
//! Begin at [`parse`].

use std::collections::{BTreeMap, BTreeSet};

use csv::{ReaderBuilder, StringRecord, Trim};
use serde::{Deserialize, Serialize};

use crate::SeatId;
use crate::source::{Problems, Severity, SourceFile, Span};
use crate::yaml::{nearest, text_of};

/// Names that a host, a database or a role of the platform bears.
pub const RESERVED: &[&str] = &[
    "admin",
    "api",
    "app",
    "arena",
    "arena-shared",
    "code",
    "config",
    "documentdb",
    "editor",
    "gateway",
    "health",
    "instructions",
    "llm",
    "local",
    "localhost",
    "none",
    "participants",
    "portal",
    "postgres",
    "public",
    "root",
    "template0",
    "template1",
    "www",
];

/// Spare seats are named after this where no cluster has a name.
pub const SPARE_PREFIX: &str = "seat";

/// The columns of the list.
const COLUMNS: [&str; 3] = ["name", "surname", "email"];
/// Rows that a list may have.
const ROWS_MAX: usize = 10_000;
/// Length of a seat's id: [`SeatId`]'s limit.
const ID_LENGTH_MAX: usize = 50;
/// Length of a display name in characters; longer ones are cut.
const NAME_LENGTH_MAX: usize = 100;

/// All seats of the event, listed ones first, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Participants {
    /// The seats.
    pub seats: Vec<Seat>,
}

/// A place at the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    /// Unique and never reserved.
    pub id: SeatId,
    /// The person it was made for; `None` for a spare seat.
    pub person: Option<Person>,
}

/// A person on the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// Name and surname, else the seat's id.
    pub display_name: String,
    /// E-mail as written.
    pub email: String,
}

/// Seats for people who are not on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spare {
    /// What they are named after (`mongodb.cluster_name`).
    pub prefix: String,
    /// Number of the first one (`mongodb.user_start_index`).
    pub start: u32,
    /// How many (`mongodb.additional_users_count`).
    pub count: u32,
}

/// Reads the list, where there is one, and adds the spare seats. Skipped, numbered and cut rows
/// are warnings; `None` when there was an error.
pub fn parse(
    list: Option<&SourceFile>,
    spare: &Spare,
    problems: &mut Problems,
) -> Option<Participants> {
    let rows = match list {
        Some(file) => Rows::read(file, problems)?,
        None => Vec::new(),
    };
    let mut seats = seated(list, rows, problems);
    let mut taken: BTreeSet<String> = seats
        .iter()
        .map(|seat| seat.id.as_str().to_owned())
        .collect();
    let prefix = Some(label(&spare.prefix))
        .filter(|prefix| !prefix.is_empty())
        .unwrap_or_else(|| SPARE_PREFIX.to_owned());
    for number in (spare.start..).take(usize::try_from(spare.count).unwrap_or(usize::MAX)) {
        let number = number.to_string();
        let wanted = format!("{}{number}", cut(&prefix, ID_LENGTH_MAX - number.len()));
        let id = free(&wanted, &taken, &mut BTreeMap::new());
        taken.insert(id.clone());
        seats.extend(SeatId::new(id).ok().map(|id| Seat { id, person: None }));
    }
    Some(Participants { seats })
}

/// Returns the text in lower case with everything but ASCII letters and digits made into single
/// hyphens, at most 50 bytes; empty when nothing is left.
pub fn label(text: &str) -> String {
    let mut label = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            label.push(c);
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    cut(&label, ID_LENGTH_MAX).to_owned()
}

fn cut(label: &str, length: usize) -> &str {
    label[..label.len().min(length)].trim_end_matches('-')
}

/// Returns the wanted id, or with the first number that makes it free and unreserved.
fn free(wanted: &str, taken: &BTreeSet<String>, next: &mut BTreeMap<String, u32>) -> String {
    let is_free = |id: &str| !taken.contains(id) && !RESERVED.contains(&id);
    if is_free(wanted) {
        return wanted.to_owned();
    }
    let number = next.entry(wanted.to_owned()).or_insert(2);
    loop {
        let suffix = format!("-{number}");
        *number += 1;
        let id = format!("{}{suffix}", cut(wanted, ID_LENGTH_MAX - suffix.len()));
        if is_free(&id) {
            return id;
        }
    }
}

/// A row of the list with an e-mail address that makes an id.
struct Row {
    name: String,
    email: String,
    wanted: String,
    span: Span,
}

/// Gives every row its seat: first those whose id is theirs alone, then the others, numbered, so
/// that a namesake never takes the id that another address spells out.
fn seated(list: Option<&SourceFile>, rows: Vec<Row>, problems: &mut Problems) -> Vec<Seat> {
    let mut taken = BTreeSet::new();
    let firsts: Vec<bool> = rows
        .iter()
        .map(|row| !RESERVED.contains(&row.wanted.as_str()) && taken.insert(row.wanted.clone()))
        .collect();
    let mut next = BTreeMap::new();
    let mut seats = Vec::with_capacity(rows.len());
    for (row, is_first) in rows.into_iter().zip(firsts) {
        let id = if is_first {
            row.wanted.clone()
        } else {
            free(&row.wanted, &taken, &mut next)
        };
        if let (false, Some(file)) = (is_first, list) {
            let reason = if RESERVED.contains(&row.wanted.as_str()) {
                "is reserved"
            } else {
                "is another seat's"
            };
            let message = format!(
                "the seat of {} is named `{id}`: `{}` {reason}",
                row.email, row.wanted
            );
            problems.push(file.problem(Severity::Warning, row.span, message));
        }
        taken.insert(id.clone());
        let Ok(id) = SeatId::new(id) else { continue };
        let display_name = if row.name.is_empty() {
            id.as_str().to_owned()
        } else {
            row.name
        };
        seats.push(Seat {
            id,
            person: Some(Person {
                display_name,
                email: row.email,
            }),
        });
    }
    seats
}

/// Reads rows one by one.
struct Rows<'a> {
    file: &'a SourceFile,
    text: &'a str,
    skipped: usize,
    /// Index of each of [`COLUMNS`].
    columns: [Option<usize>; 3],
    addresses: BTreeSet<String>,
}

impl<'a> Rows<'a> {
    fn read(file: &'a SourceFile, problems: &mut Problems) -> Option<Vec<Row>> {
        let (text, skipped) = text_of(file, problems)?;
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(text.as_bytes());
        let mut rows = Self {
            file,
            text,
            skipped,
            columns: [None; 3],
            addresses: BTreeSet::new(),
        };
        let mut list = Vec::new();
        let mut is_clean = true;
        for (number, record) in reader.records().enumerate() {
            let Ok(record) = record else {
                problems.push(rows.file.error(
                    Span {
                        line: 1,
                        column: 1,
                        ..Span::default()
                    },
                    "the list cannot be read as CSV",
                ));
                return None;
            };
            if number == 0 {
                rows.header(&record, problems)?;
            } else if number > ROWS_MAX {
                let problem = rows.file.error(
                    rows.span(&record, 0),
                    format!("the list has more than {ROWS_MAX} rows"),
                );
                problems.push(problem.hint("split the event"));
                return None;
            } else {
                match rows.row(&record, problems) {
                    Ok(row) => list.extend(row),
                    Err(Mistaken) => is_clean = false,
                }
            }
        }
        if rows.columns[2].is_none() && is_clean {
            let start = Span {
                line: 1,
                column: 1,
                ..Span::default()
            };
            problems.push(
                rows.file
                    .problem(Severity::Warning, start, "the list is empty")
                    .hint("begin it with the line `name,surname,email`"),
            );
        }
        is_clean.then_some(list)
    }

    fn header(&mut self, record: &StringRecord, problems: &mut Problems) -> Option<()> {
        let hint = "begin the file with the line `name,surname,email`";
        let first = record.get(0).unwrap_or_default();
        if record.len() == 1 && first.contains([';', '\t']) {
            let problem = self.file.error(
                self.span(record, 0),
                "the columns are not separated by commas",
            );
            problems.push(problem.hint("save the list as CSV with commas: `name,surname,email`"));
            return None;
        }
        if record.iter().any(|field| field.contains('@')) {
            problems.push(
                self.file
                    .error(self.span(record, 0), "the first line is no header")
                    .hint(hint),
            );
            return None;
        }
        let mut is_clean = true;
        for (index, field) in record.iter().enumerate() {
            let known = COLUMNS
                .iter()
                .position(|column| field.eq_ignore_ascii_case(column));
            match known {
                Some(column) if self.columns[column].is_some() => {
                    problems.push(
                        self.file
                            .error(
                                self.span(record, index),
                                format!("the column `{field}` is given twice"),
                            )
                            .hint(hint),
                    );
                    is_clean = false;
                }
                Some(column) => self.columns[column] = Some(index),
                None => {
                    let problem = self.file.problem(
                        Severity::Warning,
                        self.span(record, index),
                        format!("the column `{field}` is not used"),
                    );
                    problems.push(match nearest(field, COLUMNS) {
                        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                        None => problem.hint("known columns: name, surname, email"),
                    });
                }
            }
        }
        if self.columns[2].is_none() {
            problems.push(
                self.file
                    .error(self.span(record, 0), "the column `email` is missing")
                    .hint(hint),
            );
            is_clean = false;
        }
        is_clean.then_some(())
    }

    fn field<'r>(&self, record: &'r StringRecord, column: usize) -> &'r str {
        self.columns[column]
            .and_then(|index| record.get(index))
            .unwrap_or_default()
    }

    fn row(
        &mut self,
        record: &StringRecord,
        problems: &mut Problems,
    ) -> Result<Option<Row>, Mistaken> {
        let mut fail = |span: Span, message: String, hint: &str| {
            problems.push(self.file.error(span, message).hint(hint));
            Err(Mistaken)
        };
        if let Some(index) = record.iter().position(|field| field.contains('\n')) {
            return fail(
                self.span(record, index),
                "a quote is not closed".to_owned(),
                "close it on the same line, or remove it",
            );
        }
        if record.iter().all(str::is_empty) {
            return Ok(None);
        }
        let email = self.field(record, 2).to_owned();
        let span = self.span(record, self.columns[2].unwrap_or_default());
        if email.is_empty() {
            let problem = self.file.problem(
                Severity::Warning,
                self.span(record, 0),
                "this row has no e-mail address and is skipped",
            );
            problems
                .push(problem.hint("a seat is named after the address: add it as third column"));
            return Ok(None);
        }
        let Some((local, domain)) = email.rsplit_once('@') else {
            return fail(
                span,
                format!("`{email}` is not an e-mail address"),
                "write one such as `ada@example.com`",
            );
        };
        let wanted = label(local);
        if wanted.is_empty() || domain.is_empty() || email.contains(char::is_whitespace) {
            return fail(
                span,
                format!("`{email}` cannot name a seat"),
                "write an address with letters or digits on both sides of `@`",
            );
        }
        if !self.addresses.insert(email.to_lowercase()) {
            problems.push(self.file.problem(
                Severity::Warning,
                span,
                format!("`{email}` is listed twice; this row is skipped"),
            ));
            return Ok(None);
        }
        if local.len() > ID_LENGTH_MAX {
            problems.push(self.file.problem(
                Severity::Warning,
                span,
                format!("the seat's name is cut to {ID_LENGTH_MAX} characters: `{wanted}`"),
            ));
        }
        let name = self.name(record, problems);
        Ok(Some(Row {
            name,
            email,
            wanted,
            span,
        }))
    }

    /// Returns name and surname; empty when the row has neither.
    fn name(&self, record: &StringRecord, problems: &mut Problems) -> String {
        let full = format!("{} {}", self.field(record, 0), self.field(record, 1));
        let name = full.trim();
        if name.chars().count() <= NAME_LENGTH_MAX {
            return name.to_owned();
        }
        let message = format!("the name is cut to {NAME_LENGTH_MAX} characters");
        let span = self.span(record, 0);
        problems.push(self.file.problem(Severity::Warning, span, message));
        name.chars().take(NAME_LENGTH_MAX).collect()
    }

    /// Returns where a field stands: the reader tells the row's start, the text tells the rest.
    fn span(&self, record: &StringRecord, index: usize) -> Span {
        let (offset, line) = match record.position() {
            Some(position) => (
                usize::try_from(position.byte()).unwrap_or_default(),
                usize::try_from(position.line()).unwrap_or(1),
            ),
            None => (0, 1),
        };
        let rest = &self.text[offset.min(self.text.len())..];
        // A record's position may lie before the line break that ends the row above.
        let breaks = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
        let line = line + rest[..breaks].matches('\n').count();
        let row = rest[breaks..].lines().next().unwrap_or_default();
        let mut column = 0;
        for field in row.split(',').take(index) {
            column += field.len() + 1;
        }
        let start = row
            .get(column..)
            .map_or(0, |field| column + field.len() - field.trim_start().len());
        let value = record.get(index).unwrap_or_default();
        let start = row
            .get(start..)
            .and_then(|rest| rest.find(value))
            .map_or(start, |at| start + at)
            .min(row.len());
        let length = if value.contains('\n') {
            row.len() - start
        } else {
            value.len()
        };
        let byte = offset + breaks + self.skipped + start;
        Span {
            start: byte,
            end: byte + length,
            line,
            column: row
                .get(..start)
                .map_or(start, |before| before.chars().count())
                + 1,
        }
    }
}

/// The row has a mistake, which was reported.
struct Mistaken;
