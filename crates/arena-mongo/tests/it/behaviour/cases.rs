//! The files of cases. A case is a title, documents to begin with, and steps:
//! what is asked, what MongoDB 8 answers, and, where the built-in database
//! answers otherwise, what it does and why.
//!
//! ```text
//! ## The title of a case
//! c: {_id: 1, a: 1}, {_id: 2}         documents of the collection c
//! > update c {_id: 1} {$inc: {a: 1}}   a command; see `Step::command`
//! < {n: 1, nModified: 1}               its answer holds at least this
//! > find c {}                          two spaces continue a line
//! = [{_id: 1, a: 2}, {_id: 2}]         its result is exactly this
//! ~ [{_id: 2}, {_id: 1, a: 2}]         … in any order
//! ! 9 the message …                    it fails; '…' stands for any rest
//! here ! 115 …                         what the built-in database does instead
//! because it lacks this                why
//! eval {$add: [1, '$a']} on {a: 1} = 2 an expression's value
//! ```

use mongodb::bson::{Bson, Document, doc};

use super::notation::Reader;

#[derive(Debug)]
pub(super) struct Case {
    pub(super) title: String,
    pub(super) documents: Vec<(String, Vec<Document>)>,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) struct Step {
    /// As it stands in the file.
    pub(super) text: String,
    pub(super) asked: Asked,
    pub(super) expected: Vec<Expected>,
    pub(super) here: Vec<Expected>,
    pub(super) because: Option<String>,
}

#[derive(Debug)]
pub(super) enum Asked {
    /// In the case's own database.
    Command(Document),
    /// The `_id`s of what a find finds.
    Ids(Document),
    /// The value of an expression over one document.
    Value {
        expression: Bson,
        document: Document,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Expected {
    Result(Bson),
    Unordered(Vec<Bson>),
    Holds(Document),
    Error { code: i32, message: String },
}

/// Reads a file of cases.
///
/// # Errors
/// With the line that makes no sense.
pub(super) fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for line in logical_lines(text) {
        read_line(&mut cases, &line).map_err(|error| format!("{line}: {error}"))?;
    }
    Ok(cases)
}

/// Lines with those that continue them.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() || line.starts_with("# ") {
            continue;
        }
        match lines.last_mut() {
            Some(last) if line.starts_with("  ") => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.trim_end().to_owned()),
        }
    }
    lines
}

fn read_line(cases: &mut Vec<Case>, line: &str) -> Result<(), String> {
    if let Some(title) = line.strip_prefix("## ") {
        cases.push(Case {
            title: title.to_owned(),
            documents: Vec::new(),
            steps: Vec::new(),
        });
        return Ok(());
    }
    let case = cases.last_mut().ok_or("a case begins with '## '")?;
    if let Some(command) = line.strip_prefix("> ") {
        let asked = match command.strip_prefix("ids ") {
            Some(find) => Asked::Ids(ids_of(find)?),
            None => Asked::Command(command_of(command)?),
        };
        case.steps.push(step(command, asked));
        return Ok(());
    }
    if let Some(evaluation) = line.strip_prefix("eval ") {
        let evaluated = evaluation_of(evaluation)?;
        case.steps.push(evaluated);
        return Ok(());
    }
    if let Some((collection, documents)) = line.split_once(": {")
        && collection.chars().all(|c| c.is_ascii_alphanumeric())
    {
        let documents = documents_of(&format!("{{{documents}"))?;
        case.documents.push((collection.to_owned(), documents));
        return Ok(());
    }
    let step = case.steps.last_mut().ok_or("an answer follows a step")?;
    if let Some(reason) = line.strip_prefix("because ") {
        step.because = Some(reason.to_owned());
    } else if let Some(here) = line.strip_prefix("here ") {
        step.here.push(expected_of(here)?);
    } else {
        step.expected.push(expected_of(line)?);
    }
    Ok(())
}

fn step(text: &str, asked: Asked) -> Step {
    Step {
        text: text.to_owned(),
        asked,
        expected: Vec::new(),
        here: Vec::new(),
        because: None,
    }
}

fn documents_of(text: &str) -> Result<Vec<Document>, String> {
    let mut reader = Reader::new(text);
    let mut documents = Vec::new();
    while !reader.is_at_end() {
        documents.push(reader.document()?);
        reader.takes(',');
    }
    Ok(documents)
}

fn ids_of(text: &str) -> Result<Document, String> {
    let mut find = command_of(&format!("find {text}"))?;
    find.insert("projection", doc! { "_id": 1 });
    find.insert("sort", doc! { "_id": 1 });
    Ok(find)
}

/// A whole command in braces, or a short form: `find c {filter} {options}`,
/// `aggregate c [stages] {options}`, `insert c {…}, {…}`, `update c {q} {u} {options}`, `delete c {q}`.
fn command_of(text: &str) -> Result<Document, String> {
    if text.starts_with('{') {
        return Reader::new(text).document();
    }
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (collection, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut reader = Reader::new(rest);
    let mut command = match name {
        "find" => {
            let filter = if reader.is_at_end() {
                Document::new()
            } else {
                reader.document()?
            };
            doc! { "find": collection, "filter": filter }
        }
        "aggregate" => {
            doc! { "aggregate": collection, "pipeline": reader.value()?, "cursor": {} }
        }
        "insert" => return Ok(doc! { "insert": collection, "documents": documents_of(rest)? }),
        "update" => {
            let mut update = doc! { "q": reader.document()?, "u": reader.value()? };
            if !reader.is_at_end() {
                update.extend(reader.document()?);
            }
            doc! { "update": collection, "updates": [update] }
        }
        "delete" => {
            doc! { "delete": collection, "deletes": [{ "q": reader.document()?, "limit": 0 }] }
        }
        _ => return Err(format!("{name} is no short form")),
    };
    if !reader.is_at_end() {
        command.extend(reader.document()?);
    }
    Ok(command)
}

fn evaluation_of(text: &str) -> Result<Step, String> {
    let mut reader = Reader::new(text);
    let expression = reader.value()?;
    let mut document = Document::new();
    if reader.peek() == Some('o') {
        reader.word();
        document = reader.document()?;
    }
    let expected = reader.rest();
    let shown = text[..text.len() - expected.len()].trim_end();
    let asked = Asked::Value {
        expression,
        document,
    };
    let mut evaluated = step(shown, asked);
    if !expected.is_empty() {
        evaluated.expected.push(expected_of(&expected)?);
    }
    Ok(evaluated)
}

fn expected_of(text: &str) -> Result<Expected, String> {
    let (kind, rest) = text.split_once(' ').ok_or("a sign and a value expected")?;
    let mut reader = Reader::new(rest);
    match kind {
        "=" => reader.value().map(Expected::Result),
        "~" => match reader.value()? {
            Bson::Array(values) => Ok(Expected::Unordered(values)),
            _ => Err("an array expected".to_owned()),
        },
        "<" => reader.document().map(Expected::Holds),
        "!" => {
            let (code, message) = rest.split_once(' ').unwrap_or((rest, "…"));
            let code = code.parse().map_err(|_| format!("{code} is no code"))?;
            Ok(Expected::Error {
                code,
                message: message.to_owned(),
            })
        }
        other => Err(format!("'{other}' begins no answer")),
    }
}
