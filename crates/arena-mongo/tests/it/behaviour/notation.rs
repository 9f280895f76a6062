//! How values are written in the behaviour suite: JSON with bare names, and a
//! word for each BSON type that JSON lacks, so that `1`, `1.0`, `long(1)` and
//! `decimal('1')` are different values. What is parsed prints the same way.

use std::iter::Peekable;
use std::str::{Chars, FromStr as _};

use bson::raw::CString;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp,
};

/// In an expected value: whatever is there.
pub(super) const ANY: &str = "ANY";
/// In an expected value: nothing is there.
pub(super) const MISSING: &str = "MISSING";
/// In an expected value: a double that differs at most in its last digits.
pub(super) const NEAR: &str = "near ";

/// Reads values one after the other from a text.
pub(super) struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

type Read<T> = Result<T, String>;

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars().peekable(),
        }
    }

    /// Returns what is left, without the space before it.
    pub(super) fn rest(mut self) -> String {
        self.skip_space();
        self.rest.collect()
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Returns whether the next character is this one; takes it if so.
    pub(super) fn takes(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        if is_next {
            self.rest.next();
        }
        is_next
    }

    /// Returns the next bare word.
    pub(super) fn word(&mut self) -> String {
        self.skip_space();
        let mut word = String::new();
        while let Some(next) = self.rest.next_if(|next| is_in_word(*next)) {
            word.push(next);
        }
        word
    }

    pub(super) fn document(&mut self) -> Read<Document> {
        match self.value()? {
            Bson::Document(document) => Ok(document),
            other => Err(format!("{} is no document", shown(&other))),
        }
    }

    pub(super) fn value(&mut self) -> Read<Bson> {
        match self.peek() {
            Some('{') => self.object().map(Bson::Document),
            Some('[') => self.array().map(Bson::Array),
            Some('\'' | '"') => self.text().map(Bson::String),
            Some('/') => self.regex(),
            Some(next) if next.is_ascii_digit() || next == '-' || next == '+' => self.number(),
            Some(next) if is_in_word(next) => self.named(),
            other => Err(format!("{other:?} begins no value")),
        }
    }

    fn skip_space(&mut self) {
        while self.rest.next_if(|next| next.is_whitespace()).is_some() {}
    }

    pub(super) fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest.peek().copied()
    }

    fn expect(&mut self, wanted: char) -> Read<()> {
        if self.takes(wanted) {
            Ok(())
        } else {
            Err(format!("'{wanted}' expected, found {:?}", self.peek()))
        }
    }

    fn object(&mut self) -> Read<Document> {
        self.expect('{')?;
        let mut document = Document::new();
        while !self.takes('}') {
            let key = match self.peek() {
                Some('\'' | '"') => self.text()?,
                _ => self.word(),
            };
            self.expect(':')?;
            document.insert(key, self.value()?);
            if !self.takes(',') && self.peek() != Some('}') {
                return Err(format!("',' or '}}' expected, found {:?}", self.peek()));
            }
        }
        Ok(document)
    }

    fn array(&mut self) -> Read<Vec<Bson>> {
        self.expect('[')?;
        let mut values = Vec::new();
        while !self.takes(']') {
            values.push(self.value()?);
            if !self.takes(',') && self.peek() != Some(']') {
                return Err(format!("',' or ']' expected, found {:?}", self.peek()));
            }
        }
        Ok(values)
    }

    fn text(&mut self) -> Read<String> {
        let quote = self.rest.next().ok_or("text expected")?;
        let mut text = String::new();
        loop {
            match self.rest.next().ok_or("text without end")? {
                '\\' => text.push(match self.rest.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('0') => '\0',
                    Some('u') => self.code_point()?,
                    Some(other) => other,
                    None => return Err("text without end".to_owned()),
                }),
                next if next == quote => return Ok(text),
                next => text.push(next),
            }
        }
    }

    /// A letter by its number, as in `\u{a0}`.
    fn code_point(&mut self) -> Read<char> {
        let mut digits = String::new();
        while let Some(next) = self.rest.next_if(|next| *next != '}') {
            digits.extend(Some(next).filter(|next| *next != '{'));
        }
        self.rest.next();
        let number = u32::from_str_radix(&digits, 16).map_err(|error| error.to_string())?;
        char::from_u32(number).ok_or_else(|| format!("{digits} is no letter"))
    }

    fn regex(&mut self) -> Read<Bson> {
        self.expect('/')?;
        let mut pattern = String::new();
        loop {
            match self.rest.next().ok_or("pattern without end")? {
                '/' => break,
                next => pattern.push(next),
            }
        }
        let mut options = String::new();
        while let Some(next) = self.rest.next_if(char::is_ascii_alphabetic) {
            options.push(next);
        }
        let c = |text: String| CString::try_from(text).map_err(|error| error.to_string());
        Ok(Bson::RegularExpression(Regex {
            pattern: c(pattern)?,
            options: c(options)?,
        }))
    }

    fn number(&mut self) -> Read<Bson> {
        let mut digits = String::new();
        while let Some(next) = self
            .rest
            .next_if(|next| next.is_ascii_alphanumeric() || matches!(next, '.' | '-' | '+'))
        {
            digits.push(next);
        }
        if digits == "-Infinity" {
            return Ok(Bson::Double(f64::NEG_INFINITY));
        }
        let wrong = || format!("{digits} is no number");
        if digits.contains(['.', 'e']) {
            return digits.parse().map(Bson::Double).map_err(|_| wrong());
        }
        let number: i64 = digits.parse().map_err(|_| wrong())?;
        Ok(i32::try_from(number).map_or(Bson::Int64(number), Bson::Int32))
    }

    fn named(&mut self) -> Read<Bson> {
        let name = self.word();
        let constant = match name.as_str() {
            "true" => Bson::Boolean(true),
            "false" => Bson::Boolean(false),
            "null" => Bson::Null,
            "undefined" => Bson::Undefined,
            "NaN" => Bson::Double(f64::NAN),
            "Infinity" => Bson::Double(f64::INFINITY),
            "MinKey" => Bson::MinKey,
            "MaxKey" => Bson::MaxKey,
            ANY | MISSING => Bson::Symbol(name),
            _ => return self.called(&name),
        };
        Ok(constant)
    }

    fn called(&mut self, name: &str) -> Read<Bson> {
        self.expect('(')?;
        let mut arguments = Vec::new();
        while !self.takes(')') {
            arguments.push(self.value()?);
            self.takes(',');
        }
        let text = || match arguments.first() {
            Some(Bson::String(text)) => Ok(text.clone()),
            _ => Err(format!("{name} needs a text")),
        };
        let whole = |at: usize| match arguments.get(at) {
            Some(Bson::Int32(number)) => Ok(i64::from(*number)),
            Some(Bson::Int64(number)) => Ok(*number),
            _ => Err(format!("{name} needs a whole number")),
        };
        let unsigned = |at| whole(at).and_then(|n| u32::try_from(n).map_err(|e| e.to_string()));
        let called = match name {
            "long" => Bson::Int64(whole(0)?),
            "decimal" => {
                Bson::Decimal128(Decimal128::from_str(&text()?).map_err(|error| error.to_string())?)
            }
            "date" => Bson::DateTime(date(&text()?)?),
            "oid" => Bson::ObjectId(ObjectId::parse_str(text()?).map_err(|e| e.to_string())?),
            "ts" => Bson::Timestamp(Timestamp {
                time: unsigned(0)?,
                increment: unsigned(1)?,
            }),
            "bin" => Bson::Binary(Binary {
                subtype: BinarySubtype::Generic,
                bytes: bytes(&text()?)?,
            }),
            "uuid" => Bson::Binary(Binary {
                subtype: BinarySubtype::Uuid,
                bytes: bytes(&text()?.replace('-', ""))?,
            }),
            "code" => Bson::JavaScriptCode(text()?),
            "scoped" => Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                code: text()?,
                scope: Document::new(),
            }),
            "symbol" => Bson::Symbol(text()?),
            "near" => match arguments.first() {
                Some(Bson::Double(number)) => Bson::Symbol(format!("{NEAR}{number:?}")),
                _ => return Err("near needs a double".to_owned()),
            },
            _ => return Err(format!("{name} means nothing")),
        };
        Ok(called)
    }
}

fn is_in_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '$' | '.')
}

/// A day, or a day with a time, in UTC.
fn date(text: &str) -> Read<DateTime> {
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    if let Some(milliseconds) = full.strip_prefix('@') {
        let milliseconds = milliseconds.parse().map_err(|_| "no milliseconds")?;
        return Ok(DateTime::from_millis(milliseconds));
    }
    DateTime::parse_rfc3339_str(&full).map_err(|error| format!("{text}: {error}"))
}

fn bytes(digits: &str) -> Read<Vec<u8>> {
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|e| e.to_string()))
        .collect()
}

/// Returns a value as the suite writes it.
pub(super) fn shown(value: &Bson) -> String {
    match value {
        Bson::Document(document) => shown_document(document),
        Bson::Array(values) => {
            format!(
                "[{}]",
                values.iter().map(shown).collect::<Vec<_>>().join(", ")
            )
        }
        Bson::String(text) => format!("'{}'", text.escape_debug()),
        Bson::Double(number) if number.is_infinite() && *number > 0.0 => "Infinity".to_owned(),
        Bson::Double(number) if number.is_infinite() => "-Infinity".to_owned(),
        Bson::Double(number) => format!("{number:?}"),
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => format!("long({number})"),
        Bson::Decimal128(number) => format!("decimal('{number}')"),
        Bson::DateTime(at) => match at.try_to_rfc3339_string() {
            Ok(text) => format!("date('{text}')"),
            Err(_) => format!("date('@{}')", at.timestamp_millis()),
        },
        Bson::ObjectId(id) => format!("oid('{id}')"),
        Bson::Boolean(value) => value.to_string(),
        Bson::Null => "null".to_owned(),
        Bson::Undefined => "undefined".to_owned(),
        Bson::MinKey => "MinKey".to_owned(),
        Bson::MaxKey => "MaxKey".to_owned(),
        Bson::Timestamp(at) => format!("ts({}, {})", at.time, at.increment),
        Bson::RegularExpression(regex) => format!("/{}/{}", regex.pattern, regex.options),
        Bson::JavaScriptCode(code) => format!("code('{code}')"),
        Bson::Binary(binary) => {
            let digits: String = binary.bytes.iter().map(|b| format!("{b:02x}")).collect();
            match binary.subtype {
                BinarySubtype::Uuid => format!("uuid('{digits}')"),
                _ => format!("bin('{digits}')"),
            }
        }
        Bson::Symbol(name) => match name.strip_prefix(NEAR) {
            Some(number) => format!("near({number})"),
            None if name == ANY || name == MISSING => name.clone(),
            None => format!("symbol('{name}')"),
        },
        other => format!("{other:?}"),
    }
}

pub(super) fn shown_document(document: &Document) -> String {
    let fields: Vec<String> = document
        .iter()
        .map(|(key, value)| {
            let is_bare = !key.is_empty() && key.chars().all(is_in_word);
            if is_bare {
                format!("{key}: {}", shown(value))
            } else {
                format!("'{key}': {}", shown(value))
            }
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// Returns whether a value is the expected one: same types, same order of fields, same bits.
pub(super) fn is_same(expected: &Bson, found: &Bson) -> bool {
    match (expected, found) {
        (Bson::Symbol(name), _) if name == ANY => true,
        (Bson::Symbol(name), Bson::Double(found)) if name.starts_with(NEAR) => {
            let wanted: f64 = name[NEAR.len()..].parse().unwrap_or(f64::NAN);
            (found - wanted).abs() <= wanted.abs().max(1.0) * 1e-7
        }
        (Bson::Double(a), Bson::Double(b)) => {
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
        }
        (Bson::Document(a), Bson::Document(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((name, a), (other, b))| name == other && is_same(a, b))
        }
        (Bson::Array(a), Bson::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Bson::Decimal128(a), Bson::Decimal128(b)) => a.to_string() == b.to_string(),
        _ => expected == found,
    }
}

/// Returns whether a value holds at least the expected fields, in any order.
pub(super) fn holds(expected: &Bson, found: &Bson) -> bool {
    match (expected, found) {
        (Bson::Document(a), Bson::Document(b)) => a.iter().all(|(name, a)| match b.get(name) {
            None => matches!(a, Bson::Symbol(name) if name == MISSING),
            Some(b) => holds(a, b),
        }),
        (Bson::Array(a), Bson::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| holds(a, b))
        }
        _ => is_same(expected, found),
    }
}

#[test]
fn what_is_parsed_prints_the_same() {
    let text = "{a: 1, 'b c': 1.0, c: long(1), d: decimal('1.50'), e: [null, undefined, NaN, -Infinity], \
        f: date('2024-01-02T03:04:05Z'), g: /^a.*/i, h: bin('00ff'), i: ts(1, 2), j: MinKey, k: {$gt: -0.0}, l: ANY}";
    let value = Reader::new(text).value().unwrap_or(Bson::Null);
    assert_eq!(shown(&value), text);
}
