//! A strict reading of BSON. What a checker reads and what the engine reads must
//! be the same document, so lengths must agree exactly, text must be UTF-8, a
//! field name may appear once per document, and nesting is limited.

use std::collections::HashSet;

use thiserror::Error;

/// MongoDB's own limit of nesting.
const DEPTH_MAX: usize = 100;
/// Up to this many fields comparing with all others is cheaper than hashing.
const FEW_FIELDS: usize = 12;

/// Why bytes are not a document that both we and the engine read the same way.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub(crate) enum Malformed {
    #[error("a length does not match its contents")]
    Length,
    #[error("text is not valid UTF-8")]
    Utf8,
    #[error("element type {0:#04x} is unknown")]
    Type(u8),
    #[error("a boolean is neither 0 nor 1")]
    Boolean,
    #[error("nesting is deeper than {DEPTH_MAX} levels")]
    Depth,
    #[error("field {0:?} appears twice")]
    DuplicateField(String),
}

/// Checks one whole document in every depth.
pub(crate) fn check_document(bytes: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader { rest: bytes };
    reader.document(Kind::Document, 1)?;
    if reader.rest.is_empty() {
        Ok(())
    } else {
        Err(Malformed::Length)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Document,
    /// The keys of an array mean nothing: position decides, for us and for the engine.
    Array,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformed::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed::Length)?;
        usize::try_from(i32::from_le_bytes(bytes)).map_err(|_| Malformed::Length)
    }

    fn cstring(&mut self) -> Result<&'a str, Malformed> {
        let end = self
            .rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(Malformed::Length)?;
        let text = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(text).map_err(|_| Malformed::Utf8)
    }

    fn string(&mut self) -> Result<(), Malformed> {
        let length = self.length()?;
        let text = self.take(length)?;
        match text.split_last() {
            Some((0, text)) => std::str::from_utf8(text)
                .map(drop)
                .map_err(|_| Malformed::Utf8),
            _ => Err(Malformed::Length),
        }
    }

    fn document(&mut self, kind: Kind, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed::Depth);
        }
        let whole = self.rest;
        let length = self.length()?;
        if length < 5 || length > whole.len() {
            return Err(Malformed::Length);
        }
        let mut inner = Reader {
            rest: &whole[4..length],
        };
        let mut names = Names::default();
        loop {
            match inner.byte()? {
                0 => break,
                element => {
                    let name = inner.cstring()?;
                    if kind == Kind::Document && !names.insert(name) {
                        return Err(Malformed::DuplicateField(name.to_owned()));
                    }
                    inner.value(element, depth)?;
                }
            }
        }
        if !inner.rest.is_empty() {
            return Err(Malformed::Length);
        }
        self.rest = &whole[length..];
        Ok(())
    }

    fn value(&mut self, element: u8, depth: usize) -> Result<(), Malformed> {
        match element {
            0x01 | 0x09 | 0x11 | 0x12 => self.take(8).map(drop),
            0x02 | 0x0d | 0x0e => self.string(),
            0x03 => self.document(Kind::Document, depth + 1),
            0x04 => self.document(Kind::Array, depth + 1),
            0x05 => self.binary(),
            0x06 | 0x0a | 0x7f | 0xff => Ok(()),
            0x07 => self.take(12).map(drop),
            0x08 => match self.byte()? {
                0 | 1 => Ok(()),
                _ => Err(Malformed::Boolean),
            },
            0x0b => self.cstring().and_then(|_| self.cstring()).map(drop),
            0x0c => self.string().and_then(|()| self.take(12)).map(drop),
            0x0f => self.code_with_scope(depth),
            0x10 => self.take(4).map(drop),
            0x13 => self.take(16).map(drop),
            other => Err(Malformed::Type(other)),
        }
    }

    fn binary(&mut self) -> Result<(), Malformed> {
        let length = self.length()?;
        let subtype = self.byte()?;
        let contents = self.take(length)?;
        if subtype == 2 {
            // The old binary type states its length twice.
            let mut inner = Reader { rest: contents };
            if inner.length()? != inner.rest.len() {
                return Err(Malformed::Length);
            }
        }
        Ok(())
    }

    fn code_with_scope(&mut self, depth: usize) -> Result<(), Malformed> {
        let before = self.rest.len();
        let length = self.length()?;
        self.string()?;
        self.document(Kind::Document, depth + 1)?;
        if before - self.rest.len() == length {
            Ok(())
        } else {
            Err(Malformed::Length)
        }
    }
}

/// The names seen so far in one document.
#[derive(Default)]
struct Names<'a> {
    few: Vec<&'a str>,
    many: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    /// Returns whether the name is new.
    fn insert(&mut self, name: &'a str) -> bool {
        if self.many.is_empty() {
            if self.few.contains(&name) {
                return false;
            }
            self.few.push(name);
            if self.few.len() > FEW_FIELDS {
                self.many = self.few.drain(..).collect();
            }
            return true;
        }
        self.many.insert(name)
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, doc, rawdoc};
    use proptest::prelude::*;

    use super::*;

    fn with_pairs(pairs: &[(&str, i32)]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        for (name, value) in pairs {
            bytes.push(0x10);
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.push(0);
        let length = i32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    #[test]
    fn a_field_that_appears_twice_is_refused() {
        let twice = with_pairs(&[("find", 1), ("find", 2)]);
        assert_eq!(
            check_document(&twice),
            Err(Malformed::DuplicateField("find".to_owned()))
        );
        let names: Vec<String> = (0..50).map(|number| format!("f{}", number % 49)).collect();
        let pairs: Vec<(&str, i32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(
            check_document(&with_pairs(&pairs)),
            Err(Malformed::DuplicateField("f0".to_owned()))
        );
        assert_eq!(check_document(&with_pairs(&pairs[..49])), Ok(()));
    }

    #[test]
    fn nesting_ends_at_a_hundred_levels() {
        let nested =
            |levels: usize| (1..levels).fold(rawdoc! {}, |inner, _| rawdoc! { "a": inner });
        assert_eq!(check_document(nested(100).as_bytes()), Ok(()));
        assert_eq!(
            check_document(nested(101).as_bytes()),
            Err(Malformed::Depth)
        );
        assert_eq!(
            check_document(nested(3_000).as_bytes()),
            Err(Malformed::Depth)
        );
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let document = doc! {
            "double": 1.5, "text": "ä", "document": { "a": [1, { "b": null }] }, "flag": true,
            "id": bson::oid::ObjectId::new(), "at": bson::DateTime::now(), "int": 1, "long": 1_i64,
            "decimal": bson::Bson::Decimal128(bson::Decimal128::from_bytes([0; 16])),
            "regex": bson::Regex { pattern: bson::cstr!("a").into(), options: bson::cstr!("i").into() }, "min": bson::Bson::MinKey, "max": bson::Bson::MaxKey,
            "binary": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2] },
            "code": bson::Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code: "x".into(), scope: doc! { "a": 1 } }),
        };
        let raw = RawDocumentBuf::try_from(&document).unwrap();
        assert_eq!(check_document(raw.as_bytes()), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_accepted_reads_to_the_end(at in 4_usize..80, value: u8) {
            let document = doc! { "a": 1.5, "b": "text", "c": [1, { "d": true }], "e": bson::Bson::MinKey, "f": "zz" };
            let mut bytes = RawDocumentBuf::try_from(&document).unwrap().into_bytes();
            let at = at.min(bytes.len() - 1);
            bytes[at] = value;
            if check_document(&bytes).is_ok() {
                prop_assert!(bson::Document::try_from(RawDocumentBuf::from_bytes(bytes).unwrap()).is_ok());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = check_document(&bytes);
        }
    }
}
