//! MongoDB's wire protocol as bytes: message headers, `OP_MSG` with document
//! sequences and checksum, and the legacy `OP_QUERY` that old drivers open with.
//! It trusts no length that a client states and knows nothing about commands.

use bson::{RawDocument, RawDocumentBuf};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::compression::{self, Compressor, OP_COMPRESSED};
use crate::strict::{self, Malformed};

/// The largest message that is read, MongoDB's own limit.
pub(crate) const MESSAGE_BYTES_MAX: usize = 48_000_000;
/// The largest document that a client may store or send in a sequence.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a command document may add around a document of the largest size.
const DOCUMENT_MARGIN_BYTES: usize = 16 * 1024;
/// No command has more than two; each is compared with all others and with the body.
const SEQUENCES_MAX: usize = 8;
/// The size of a message header.
pub(crate) const HEADER_BYTES: usize = 16;

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

const CHECKSUM_PRESENT: u32 = 1;
const MORE_TO_COME: u32 = 1 << 1;
/// The lower half of the flag bits must be understood by whoever reads them.
const REQUIRED_BITS: u32 = 0xffff;

/// Why bytes are not a message of this protocol. The connection cannot be trusted afterwards.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum WireError {
    #[error("message length {0} is outside the allowed range")]
    Length(i64),
    #[error("operation code {0} is not supported")]
    OpCode(i32),
    #[error("message ends early")]
    Truncated,
    #[error("required flag bits {0:#x} are unknown")]
    Flags(u32),
    #[error("section of unknown kind {0}")]
    SectionKind(u8),
    #[error("message must have exactly one body")]
    Body,
    #[error("message has more than {SEQUENCES_MAX} document sequences")]
    Sequences,
    #[error("document sequence {0:?} appears twice or is also a field of the body")]
    DuplicateSequence(String),
    #[error("checksum does not match")]
    Checksum,
    #[error("compressed message cannot be read")]
    Compression,
    #[error("document is malformed")]
    Document(#[from] Malformed),
}

/// The first 16 bytes of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) request_id: i32,
    pub(crate) op_code: i32,
}

impl Header {
    /// Reads a header; the length counts the header itself.
    pub(crate) fn parse(bytes: [u8; HEADER_BYTES], length_max: usize) -> Result<Self, WireError> {
        let mut bytes = bytes.as_slice();
        let stated = bytes.get_i32_le();
        let request_id = bytes.get_i32_le();
        let _response_to = bytes.get_i32_le();
        let op_code = bytes.get_i32_le();
        let length = usize::try_from(stated).map_err(|_| WireError::Length(stated.into()))?;
        if !(HEADER_BYTES..=length_max).contains(&length) {
            return Err(WireError::Length(stated.into()));
        }
        Ok(Self {
            length,
            request_id,
            op_code,
        })
    }
}

impl Header {
    /// Returns the header as it would stand before the message, answering nothing.
    fn bytes(&self) -> [u8; HEADER_BYTES] {
        let length = i32::try_from(self.length).unwrap_or(i32::MAX);
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.request_id.to_le_bytes());
        bytes[12..].copy_from_slice(&self.op_code.to_le_bytes());
        bytes
    }
}

/// How the client asked, which decides how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Msg { checksum: bool },
    Query,
}

/// A command as it came: checked for well-formedness, not for meaning.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) framing: Framing,
    /// The client wants no answer (write concern 0).
    pub(crate) is_unanswered: bool,
    /// How it came, which is how the answer goes.
    pub(crate) compressor: Option<Compressor>,
    pub(crate) body: RawDocumentBuf,
    /// Document sequences by field name; the bytes are whole documents one after the other.
    pub(crate) sequences: Vec<(String, Bytes)>,
}

impl Request {
    /// How long it is.
    pub(crate) fn bytes(&self) -> usize {
        let sequences = self.sequences.iter().map(|(_, bytes)| bytes.len());
        self.body.as_bytes().len() + sequences.sum::<usize>()
    }

    /// Reads what follows the header.
    pub(crate) fn parse(
        header: &Header,
        header_bytes: &[u8; HEADER_BYTES],
        payload: Bytes,
        length_max: usize,
    ) -> Result<Self, WireError> {
        match header.op_code {
            OP_MSG => parse_msg(header_bytes, payload),
            OP_QUERY => parse_query(payload),
            OP_COMPRESSED => {
                let inflated = compression::inflate(header, payload, length_max)?;
                let head = inflated.header.bytes();
                let mut request = match inflated.header.op_code {
                    OP_MSG => parse_msg(&head, inflated.payload),
                    OP_QUERY => parse_query(inflated.payload),
                    other => Err(WireError::OpCode(other)),
                }?;
                request.compressor = Some(inflated.compressor);
                Ok(request)
            }
            other => Err(WireError::OpCode(other)),
        }
    }
}

fn parse_msg(header: &[u8; HEADER_BYTES], mut payload: Bytes) -> Result<Request, WireError> {
    let flags = (&payload[..]).try_get_u32_le();
    let flags = flags.map_err(|_| WireError::Truncated)?;
    let unknown = flags & REQUIRED_BITS & !(CHECKSUM_PRESENT | MORE_TO_COME);
    if unknown != 0 {
        return Err(WireError::Flags(unknown));
    }
    let checksum = flags & CHECKSUM_PRESENT != 0;
    if checksum {
        let at = payload
            .len()
            .checked_sub(4)
            .filter(|at| *at >= 4)
            .ok_or(WireError::Truncated)?;
        let stated = (&payload[at..]).get_u32_le();
        if crc32c(&[header, &payload[..at]]) != stated {
            return Err(WireError::Checksum);
        }
        payload.truncate(at);
    }
    payload.advance(4);
    let mut body = None;
    let mut sequences: Vec<(String, Bytes)> = Vec::new();
    while payload.has_remaining() {
        match payload.get_u8() {
            0 if body.is_none() => body = Some(take_document(&mut payload, MESSAGE_BYTES_MAX)?),
            0 => return Err(WireError::Body),
            1 if sequences.len() == SEQUENCES_MAX => return Err(WireError::Sequences),
            1 => {
                let (name, documents) = take_sequence(&mut payload)?;
                if sequences.iter().any(|(other, _)| *other == name) {
                    return Err(WireError::DuplicateSequence(name));
                }
                sequences.push((name, documents));
            }
            kind => return Err(WireError::SectionKind(kind)),
        }
    }
    let body = body.ok_or(WireError::Body)?;
    for (name, _) in &sequences {
        if body.get(name).is_ok_and(|field| field.is_some()) {
            return Err(WireError::DuplicateSequence(name.clone()));
        }
    }
    Ok(Request {
        framing: Framing::Msg { checksum },
        is_unanswered: flags & MORE_TO_COME != 0,
        compressor: None,
        body,
        sequences,
    })
}

/// `OP_QUERY` on `{db}.$cmd`: flags, namespace, skip, limit, query, optional projection.
fn parse_query(mut payload: Bytes) -> Result<Request, WireError> {
    let _flags = take_u32(&mut payload)?;
    let namespace = take_cstring(&mut payload)?;
    if payload.remaining() < 8 {
        return Err(WireError::Truncated);
    }
    payload.advance(8);
    let query = take_document(&mut payload, DOCUMENT_BYTES_MAX)?;
    // Drivers wrap the command when they send a read preference.
    let mut body = match query.get_document("$query") {
        Ok(inner) => inner.to_owned(),
        Err(_) => query,
    };
    if body.get("$db").is_ok_and(|field| field.is_none()) {
        let database = namespace.split('.').next().unwrap_or_default();
        body.append(bson::cstr!("$db"), database);
    }
    Ok(Request {
        framing: Framing::Query,
        is_unanswered: false,
        compressor: None,
        body,
        sequences: Vec::new(),
    })
}

fn take_u32(payload: &mut Bytes) -> Result<u32, WireError> {
    payload.try_get_u32_le().map_err(|_| WireError::Truncated)
}

fn take_cstring(payload: &mut Bytes) -> Result<String, WireError> {
    let end = payload
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(WireError::Truncated)?;
    let text = payload.split_to(end);
    payload.advance(1);
    String::from_utf8(text.into()).map_err(|_| WireError::Document(Malformed::Utf8))
}

/// Takes one document whose stated length fits what is left, checked in every depth.
fn take_document(payload: &mut Bytes, length_max: usize) -> Result<RawDocumentBuf, WireError> {
    let bytes = take_document_bytes(payload, length_max)?;
    strict::check_document(&bytes)?;
    RawDocumentBuf::from_bytes(bytes.into()).map_err(|_| WireError::Document(Malformed::Length))
}

fn take_document_bytes(payload: &mut Bytes, length_max: usize) -> Result<Bytes, WireError> {
    let stated = (&payload[..])
        .try_get_i32_le()
        .map_err(|_| WireError::Truncated)?;
    let length = usize::try_from(stated).map_err(|_| WireError::Length(stated.into()))?;
    if length < 5 || length > length_max {
        return Err(WireError::Length(stated.into()));
    }
    if length > payload.remaining() {
        return Err(WireError::Truncated);
    }
    Ok(payload.split_to(length))
}

fn take_sequence(payload: &mut Bytes) -> Result<(String, Bytes), WireError> {
    let stated = (&payload[..])
        .try_get_i32_le()
        .map_err(|_| WireError::Truncated)?;
    let length = usize::try_from(stated).map_err(|_| WireError::Length(stated.into()))?;
    if length < 5 || length > payload.remaining() {
        return Err(WireError::Length(stated.into()));
    }
    let mut section = payload.split_to(length);
    section.advance(4);
    let name = take_cstring(&mut section)?;
    let documents = section.clone();
    while section.has_remaining() {
        let document =
            take_document_bytes(&mut section, DOCUMENT_BYTES_MAX + DOCUMENT_MARGIN_BYTES)?;
        strict::check_document(&document)?;
    }
    Ok((name, documents))
}

/// Returns the documents of a sequence that [`Request::parse`] has checked.
pub(crate) fn documents_of(sequence: &Bytes) -> impl Iterator<Item = &RawDocument> {
    let mut rest: &[u8] = sequence;
    std::iter::from_fn(move || {
        let length = usize::try_from(rest.get(..4)?.try_get_i32_le().ok()?).ok()?;
        let document = RawDocument::from_bytes(rest.get(..length)?).ok()?;
        rest = &rest[length..];
        Some(document)
    })
}

/// Returns the bytes of an answer to a request.
pub(crate) fn encode_reply(framing: Framing, response_to: i32, body: &RawDocument) -> BytesMut {
    let document = body.as_bytes();
    let mut message = BytesMut::with_capacity(HEADER_BYTES + 24 + document.len());
    message.put_i32_le(0);
    message.put_i32_le(0);
    message.put_i32_le(response_to);
    match framing {
        Framing::Msg { checksum } => {
            message.put_i32_le(OP_MSG);
            message.put_u32_le(if checksum { CHECKSUM_PRESENT } else { 0 });
            message.put_u8(0);
            message.put_slice(document);
        }
        Framing::Query => {
            message.put_i32_le(OP_REPLY);
            // Flags (await capable), cursor id, starting from, number returned.
            message.put_i32_le(8);
            message.put_i64_le(0);
            message.put_i32_le(0);
            message.put_i32_le(1);
            message.put_slice(document);
        }
    }
    let checksum = framing == Framing::Msg { checksum: true };
    let length = message.len() + if checksum { 4 } else { 0 };
    let length = i32::try_from(length).expect("an answer is limited to far less than 2 GiB");
    message[..4].copy_from_slice(&length.to_le_bytes());
    if checksum {
        let sum = crc32c(&[&message]);
        message.put_u32_le(sum);
    }
    message
}

/// CRC-32C (Castagnoli), which `OP_MSG` uses; few clients ask for it, so it is not a table.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = (crc >> 1) ^ (0x82f6_3b78 & carry.wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use proptest::prelude::*;

    use super::*;

    fn message(flags: u32, sections: &[u8]) -> (Header, [u8; HEADER_BYTES], Bytes) {
        let mut payload = flags.to_le_bytes().to_vec();
        payload.extend_from_slice(sections);
        framed(OP_MSG, payload)
    }

    fn framed(op_code: i32, payload: Vec<u8>) -> (Header, [u8; HEADER_BYTES], Bytes) {
        let mut header = [0; HEADER_BYTES];
        let length = i32::try_from(payload.len() + HEADER_BYTES).unwrap();
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[12..].copy_from_slice(&op_code.to_le_bytes());
        (
            Header::parse(header, MESSAGE_BYTES_MAX).unwrap(),
            header,
            payload.into(),
        )
    }

    fn parse(flags: u32, sections: &[u8]) -> Result<Request, WireError> {
        let (header, bytes, payload) = message(flags, sections);
        Request::parse(&header, &bytes, payload, MESSAGE_BYTES_MAX)
    }

    fn body(document: &RawDocument) -> Vec<u8> {
        [&[0], document.as_bytes()].concat()
    }

    fn sequence(name: &str, documents: &[RawDocumentBuf]) -> Vec<u8> {
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        documents
            .iter()
            .for_each(|document| bytes.extend_from_slice(document.as_bytes()));
        let length = i32::try_from(bytes.len() + 4).unwrap();
        [&[1], &length.to_le_bytes()[..], &bytes].concat()
    }

    #[test]
    fn a_body_and_a_sequence_are_read_in_any_order() {
        let ping = rawdoc! { "insert": "c", "$db": "d" };
        let documents = [rawdoc! { "a": 1 }, rawdoc! { "a": 2 }];
        let sections = [sequence("documents", &documents), body(&ping)].concat();
        let request = parse(0, &sections).unwrap();
        assert_eq!(request.body, ping);
        let read: Vec<_> = documents_of(&request.sequences[0].1)
            .map(RawDocument::to_owned)
            .collect();
        assert_eq!(read, documents);
    }

    #[test]
    fn lying_lengths_are_refused() {
        let ping = rawdoc! { "ping": 1 };
        for lie in [i32::MIN, -1, 0, 4, 1_000, i32::MAX] {
            let mut section = body(&ping);
            section[1..5].copy_from_slice(&lie.to_le_bytes());
            assert!(parse(0, &section).is_err(), "{lie}");
            let mut header = [0; HEADER_BYTES];
            header[..4].copy_from_slice(&lie.to_le_bytes());
            assert_eq!(
                Header::parse(header, MESSAGE_BYTES_MAX).is_ok(),
                lie == 1_000,
                "{lie}"
            );
        }
    }

    /// Each is compared with all others and with every field, before anybody has logged in.
    #[test]
    fn there_are_few_sequences() {
        let sections = |count: usize| {
            let names = (0..count).map(|number| format!("s{number}"));
            let sequences = names.flat_map(|name| sequence(&name, &[]));
            body(&rawdoc! { "ping": 1 })
                .into_iter()
                .chain(sequences)
                .collect::<Vec<u8>>()
        };
        let request = parse(0, &sections(SEQUENCES_MAX)).unwrap();
        assert_eq!(request.sequences.len(), SEQUENCES_MAX);
        assert_eq!(
            parse(0, &sections(SEQUENCES_MAX + 1)),
            Err(WireError::Sequences)
        );
    }

    #[test]
    fn a_sequence_may_not_repeat_a_field() {
        let insert = rawdoc! { "insert": "c", "documents": [] };
        let sections = [body(&insert), sequence("documents", &[])].concat();
        assert_eq!(
            parse(0, &sections),
            Err(WireError::DuplicateSequence("documents".to_owned()))
        );
        let sections = [body(&rawdoc! {}), sequence("d", &[]), sequence("d", &[])].concat();
        assert_eq!(
            parse(0, &sections),
            Err(WireError::DuplicateSequence("d".to_owned()))
        );
    }

    #[test]
    fn two_bodies_and_no_body_are_refused() {
        let twice = [body(&rawdoc! {}), body(&rawdoc! {})].concat();
        assert_eq!(parse(0, &twice), Err(WireError::Body));
        assert_eq!(parse(0, &[]), Err(WireError::Body));
    }

    #[test]
    fn an_unknown_required_flag_is_refused_and_an_optional_one_ignored() {
        let ping = body(&rawdoc! { "ping": 1 });
        assert_eq!(parse(1 << 5, &ping), Err(WireError::Flags(1 << 5)));
        assert!(parse(1 << 16, &ping).is_ok());
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
    }

    #[test]
    fn a_reply_with_checksum_reads_back_and_a_changed_one_does_not() {
        let mut reply = encode_reply(Framing::Msg { checksum: true }, 7, &rawdoc! { "ok": 1.0 });
        let read = |bytes: &BytesMut| {
            let header: [u8; HEADER_BYTES] = bytes[..HEADER_BYTES].try_into().unwrap();
            let parsed = Header::parse(header, MESSAGE_BYTES_MAX).unwrap();
            assert_eq!(parsed.length, bytes.len());
            Request::parse(
                &parsed,
                &header,
                Bytes::copy_from_slice(&bytes[HEADER_BYTES..]),
                MESSAGE_BYTES_MAX,
            )
        };
        assert_eq!(read(&reply).unwrap().body, rawdoc! { "ok": 1.0 });
        let middle = reply.len() - 10;
        reply[middle] ^= 1;
        assert!(read(&reply).is_err());
    }

    #[test]
    fn a_legacy_query_carries_its_database() {
        let mut payload = 0_u32.to_le_bytes().to_vec();
        payload.extend_from_slice(b"admin.$cmd\0");
        payload.extend_from_slice(&[0, 0, 0, 0, 255, 255, 255, 255]);
        payload.extend_from_slice(rawdoc! { "isMaster": 1 }.as_bytes());
        let (header, bytes, payload) = framed(OP_QUERY, payload);
        let request = Request::parse(&header, &bytes, payload, MESSAGE_BYTES_MAX).unwrap();
        assert_eq!(request.body, rawdoc! { "isMaster": 1, "$db": "admin" });
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(flags in 0_u32..4, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(flags, &bytes);
            let (header, head, payload) = framed(OP_QUERY, bytes);
            let _ = Request::parse(&header, &head, payload, MESSAGE_BYTES_MAX);
        }

        #[test]
        fn one_changed_byte_never_makes_the_parser_panic(at in 0_usize..60, value: u8) {
            let document = rawdoc! { "insert": "c", "a": [1, { "b": "text" }], "d": 1.5, "$db": "x" };
            let mut sections = [body(&document), sequence("documents", &[rawdoc! { "x": 1 }])].concat();
            let at = at.min(sections.len() - 1);
            sections[at] = value;
            if let Ok(request) = parse(0, &sections) {
                // Whatever was accepted can be read to the end.
                prop_assert!(bson::Document::try_from(request.body).is_ok());
            }
        }
    }
}
