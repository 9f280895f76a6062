//! Reads SQL text as `psql` would: statements one by one with their lines, the rows behind
//! `COPY … FROM stdin`, and psql's own commands. It knows which statements of a dump are about the
//! server that it was made on (owners, grants, extensions) and not about the data.
//!
//! It is no SQL parser: it finds where statements end, and looks at their words.

use thiserror::Error;

/// One step of loading a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// A statement without its semicolon.
    Statement { line: usize, text: &'a str },
    /// `COPY … FROM stdin` and the lines of its rows, each with its end.
    Copy {
        line: usize,
        text: &'a str,
        rows: &'a str,
    },
    /// An extension that the text asks for.
    Extension { line: usize, name: String },
}

/// Why a file cannot be loaded.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{reason}")]
pub(super) struct DumpError {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Returns what is to be done for a file, in order.
pub(super) fn parts(text: &str) -> Result<Vec<Part<'_>>, DumpError> {
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
    };
    let mut parts = Vec::new();
    loop {
        reader.skip_space();
        if reader.rest().is_empty() {
            return Ok(parts);
        }
        if reader.rest().starts_with('\\') {
            reader.command()?;
            continue;
        }
        let line = reader.line;
        let text = reader.statement();
        let words = words(text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if text.is_empty() || is_about_the_server(&words) {
            continue;
        }
        parts.push(match words.as_slice() {
            ["CREATE", "EXTENSION", rest @ ..] => Part::Extension {
                line,
                name: extension(rest),
            },
            ["COPY", rest @ ..] if rest.windows(2).any(|pair| pair == ["FROM", "STDIN"]) => {
                let rows = reader.rows(line)?;
                Part::Copy { line, text, rows }
            }
            _ => Part::Statement { line, text },
        });
    }
}

/// The words of a statement in capitals. Enough is looked at to know what it is.
fn words(statement: &str) -> Vec<String> {
    statement
        .split_whitespace()
        .map(str::to_ascii_uppercase)
        .collect()
}

/// Whether a statement is about owners, rights and other things that the platform sees to: in a seat
/// everything belongs to the seat.
fn is_about_the_server(words: &[&str]) -> bool {
    let is_name = |word: &str| {
        word.chars()
            .all(|letter| letter.is_alphanumeric() || "_-.\"".contains(letter))
    };
    match words {
        ["GRANT" | "REVOKE", ..]
        | ["ALTER", "DEFAULT", "PRIVILEGES", ..]
        | ["COMMENT", "ON", "EXTENSION" | "DATABASE", ..]
        | ["COMMENT", "ON", "SCHEMA", "PUBLIC", ..]
        | ["CREATE" | "ALTER", "SCHEMA", "PUBLIC", ..]
        | ["CREATE", "SCHEMA", "IF", "NOT", "EXISTS", "PUBLIC"] => true,
        ["ALTER", .., "OWNER", "TO", name] => is_name(name),
        _ => false,
    }
}

fn extension(rest: &[&str]) -> String {
    let rest = rest.strip_prefix(&["IF", "NOT", "EXISTS"]).unwrap_or(rest);
    rest.first()
        .map(|name| name.trim_matches('"').to_ascii_lowercase())
        .unwrap_or_default()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let passed = &self.rest()[..bytes];
        self.line += passed.matches('\n').count();
        self.at += bytes;
        passed
    }

    /// Goes to the next thing that is neither space nor comment nor a lone semicolon.
    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', ';']).len();
            let skipped = space + comment_length(&rest[space..]);
            if skipped == 0 {
                return;
            }
            self.advance(skipped);
        }
    }

    /// Passes a command of psql that changes nothing here; refuses the others.
    fn command(&mut self) -> Result<(), DumpError> {
        let line = self.line;
        let length = self.rest().find('\n').unwrap_or(self.rest().len());
        let command = self.advance(length).trim_end();
        let word = command.split_whitespace().next().unwrap_or_default();
        let reason = match word {
            "\\restrict" | "\\unrestrict" | "\\echo" | "\\timing" | "\\pset" | "\\encoding"
            | "\\qecho" | "\\x" => return Ok(()),
            "\\connect" | "\\c" => format!(
                "{word} changes the database, and a seat has one: make the dump of one database, without --create"
            ),
            "\\i" | "\\ir" | "\\include" | "\\copy" => format!(
                "{word} is a command of psql that reads another file: put the text here, or list the files in order"
            ),
            _ => format!("{word} is a command of psql, not SQL: remove it"),
        };
        Err(DumpError { line, reason })
    }

    /// Takes a statement up to its semicolon, or the text's end, and passes the semicolon.
    fn statement(&mut self) -> &'a str {
        let text = self.rest();
        let bytes = text.as_bytes();
        let is_routine = {
            let begin: Vec<String> = text
                .split_whitespace()
                .take(4)
                .map(str::to_ascii_uppercase)
                .collect();
            begin.first().is_some_and(|word| word == "CREATE")
                && begin
                    .iter()
                    .any(|word| word == "FUNCTION" || word == "PROCEDURE")
        };
        let (mut at, mut parentheses, mut blocks) = (0, 0_usize, 0_usize);
        while at < bytes.len() {
            let rest = &text[at..];
            let skipped = comment_length(rest).max(quoted_length(text, at));
            if skipped > 0 {
                at += skipped;
                continue;
            }
            match bytes[at] {
                b';' if parentheses == 0 && blocks == 0 => break,
                b'(' => parentheses += 1,
                b')' => parentheses = parentheses.saturating_sub(1),
                _ => {}
            }
            let word = word_length(rest);
            // The body of a routine in standard SQL has semicolons of its own: BEGIN ATOMIC … END.
            if is_routine && word > 0 {
                match rest[..word].to_ascii_uppercase().as_str() {
                    "BEGIN" => blocks += 1,
                    "CASE" if blocks > 0 => blocks += 1,
                    "END" => blocks = blocks.saturating_sub(1),
                    _ => {}
                }
            }
            at += word.max(rest.chars().next().map_or(1, char::len_utf8));
        }
        let statement = self.advance(at);
        if !self.rest().is_empty() {
            self.advance(1);
        }
        statement.trim_end()
    }

    /// Takes the rows behind a `COPY`, up to the line `\.`.
    fn rows(&mut self, line: usize) -> Result<&'a str, DumpError> {
        let begin = self
            .rest()
            .find('\n')
            .map_or(self.rest().len(), |at| at + 1);
        self.advance(begin);
        let rest = self.rest();
        let mut at = 0;
        for row in rest.split_inclusive('\n') {
            if row.trim_end_matches(['\r', '\n']) == "\\." {
                let rows = self.advance(at);
                self.advance(row.len());
                return Ok(rows);
            }
            at += row.len();
        }
        let reason = "the rows of this COPY do not end with a line `\\.`: is the file cut off?";
        Err(DumpError {
            line,
            reason: reason.to_owned(),
        })
    }
}

/// Length of the comment that a text begins with; comments in `/* … */` nest.
fn comment_length(text: &str) -> usize {
    if text.starts_with("--") {
        return text.find('\n').unwrap_or(text.len());
    }
    if !text.starts_with("/*") {
        return 0;
    }
    let (mut depth, mut at) = (0_usize, 0);
    let bytes = text.as_bytes();
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Length of the quoted thing that begins at a place: `'…'`, `E'…'`, `"…"`, `$tag$…$tag$`.
fn quoted_length(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    match rest.as_bytes().first() {
        Some(quote @ (b'\'' | b'"')) => {
            let before = &text[..at];
            let has_escapes = *quote == b'\''
                && before.ends_with(['e', 'E'])
                && !before[..before.len() - 1].ends_with(is_word_letter);
            quote_end(rest.as_bytes(), *quote, has_escapes)
        }
        Some(b'$') if !text[..at].ends_with(is_word_letter) => {
            let tag = rest[1..].find('$').map(|end| &rest[..end + 2]);
            let tag = tag.filter(|tag| {
                let name = &tag[1..tag.len() - 1];
                name.chars().all(is_word_letter)
                    && !name.starts_with(|first: char| first.is_ascii_digit())
            });
            tag.map_or(0, |tag| {
                let body = &rest[tag.len()..];
                body.find(tag)
                    .map_or(rest.len(), |end| tag.len() + end + tag.len())
            })
        }
        _ => 0,
    }
}

fn quote_end(bytes: &[u8], quote: u8, has_escapes: bool) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        if has_escapes && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

fn word_length(text: &str) -> usize {
    text.find(|letter: char| !is_word_letter(letter))
        .unwrap_or(text.len())
}

fn is_word_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(text: &str) -> Vec<(usize, &str)> {
        let parts = parts(text).unwrap();
        let statement = |part| match part {
            Part::Statement { line, text } => (line, text),
            other => panic!("{other:?}"),
        };
        parts.into_iter().map(statement).collect()
    }

    #[test]
    fn statements_end_where_psql_ends_them() {
        let text = "-- one; two\nSELECT ';', E'\\';', \"a;b\", $$;$$, $x$ $$;$$ $x$ /* ; /* ; */ ; */;\n\n;\
                    CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;\n\
                    CREATE RULE r AS ON DELETE TO t DO (SELECT 1; SELECT 2);\nBEGIN;COMMIT;SELECT $1, a$b$c;SELECT 'ö'";
        let found = statements(text);
        assert_eq!(found.len(), 7, "{found:?}");
        assert_eq!(found[0].0, 2);
        assert!(found[0].1.starts_with("SELECT ';'") && found[0].1.ends_with("*/"));
        assert!(found[1].1.ends_with("SELECT 2; END"));
        assert!(found[2].1.ends_with("SELECT 2)"));
        assert_eq!(found[5].1, "SELECT $1, a$b$c");
        assert_eq!(found[6].1, "SELECT 'ö'");
    }

    #[test]
    fn a_dump_is_its_data_without_owners_and_grants() {
        let text = "\\restrict abc\nSET statement_timeout = 0;\nCREATE EXTENSION IF NOT EXISTS \"pg_trgm\" WITH SCHEMA public;\n\
                    COMMENT ON EXTENSION pg_trgm IS 'x';\nCREATE TABLE public.t (a int);\nALTER TABLE public.t OWNER TO \"the-owner\";\n\
                    ALTER TABLE public.t OWNER TO postgres;\nALTER TABLE t ALTER a SET DEFAULT 'x OWNER TO y';\n\
                    COPY public.t (a) FROM stdin;\n1\n\\N\n;';\n\\.\n\nGRANT ALL ON t TO x;\nCOPY t FROM stdin WITH (FORMAT csv);\r\n1\r\n\\.\r\n\\unrestrict abc\n";
        let found = parts(text).unwrap();
        let kinds: Vec<(usize, &str)> = found
            .iter()
            .map(|part| match part {
                Part::Statement { line, .. } => (*line, "statement"),
                Part::Copy { line, .. } => (*line, "copy"),
                Part::Extension { line, .. } => (*line, "extension"),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                (2, "statement"),
                (3, "extension"),
                (5, "statement"),
                (8, "statement"),
                (9, "copy"),
                (16, "copy")
            ],
            "{found:?}"
        );
        assert!(
            matches!(&found[1], Part::Extension { name, .. } if name == "pg_trgm"),
            "{found:?}"
        );
        assert!(
            matches!(
                &found[4],
                Part::Copy {
                    rows: "1\n\\N\n;';\n",
                    ..
                }
            ),
            "{found:?}"
        );
        assert!(
            matches!(&found[5], Part::Copy { rows: "1\r\n", .. }),
            "{found:?}"
        );
    }

    #[test]
    fn what_only_psql_can_do_is_refused_with_the_line_and_what_to_do() {
        let told = |text: &str| parts(text).unwrap_err();
        assert_eq!(told("SELECT 1;\n\\connect other\n").line, 2);
        assert!(told("\\c x").reason.contains("without --create"));
        assert!(told("\\i other.sql").reason.contains("list the files"));
        assert!(told("\\! true").reason.contains("not SQL"));
        assert!(told("COPY t FROM stdin;\n1\n").reason.contains("cut off"));
        // Text that ends in the middle of something is the server's to refuse.
        for text in [
            "SELECT 'a",
            "/* a",
            "$a$ b",
            "SELECT (1;",
            "\"",
            "E'\\",
            "é'",
        ] {
            parts(text).unwrap();
        }
    }
}
