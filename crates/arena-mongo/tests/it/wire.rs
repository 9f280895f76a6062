//! A client that sends what it is told, byte by byte.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use mongodb::bson::{Binary, Document, doc, spec::BinarySubtype};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{PASSWORD, World};

const LIMIT: Duration = Duration::from_secs(60);

/// What is before an answer's document: the header, flags and the kind of section.
pub(crate) const HEAD_BYTES: usize = 16 + 4 + 1;

/// A client's side of a connection.
pub(crate) struct Wire<S = TcpStream>(S);

impl Wire {
    pub(crate) async fn open(world: &World) -> Self {
        Self::over(TcpStream::connect(&world.address).await.unwrap())
    }

    /// The socket itself.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.0
    }

    pub(crate) async fn log_in_as(world: &World, user: &str) -> Self {
        let mut wire = Self::open(world).await;
        wire.log_in(user, PASSWORD).await;
        wire
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Over a connection that has just been made.
    pub(crate) fn over(stream: S) -> Self {
        Self(stream)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next answer, or nothing when the server has closed the connection.
    pub(crate) async fn answer(&mut self) -> Option<Document> {
        let mut length = [0; 4];
        let read = timeout(LIMIT, self.0.read_exact(&mut length))
            .await
            .expect("no answer and not closed");
        read.ok()?;
        let mut rest = vec![0; usize::try_from(i32::from_le_bytes(length)).unwrap() - 4];
        self.0.read_exact(&mut rest).await.unwrap();
        Some(Document::from_reader(&rest[HEAD_BYTES - 4..]).unwrap())
    }

    /// The next answer's bytes.
    pub(crate) async fn raw_answer(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).await.unwrap();
        let rest = usize::try_from(i32::from_le_bytes(length)).unwrap() - 4;
        let mut bytes = length.to_vec();
        bytes.resize(rest + 4, 0);
        self.0.read_exact(&mut bytes[4..]).await.unwrap();
        bytes
    }

    pub(crate) async fn run(&mut self, command: &Document) -> Document {
        self.send(&message(&document(command))).await;
        self.answer().await.expect("closed instead of answering")
    }

    /// Logs in by hand and returns the last message, as one who listens would have it.
    pub(crate) async fn log_in(&mut self, user: &str, password: &str) -> (Document, String) {
        let first = format!("n={user},r=abcdef");
        let start = self.run(&sasl("saslStart", &format!("n,,{first}"))).await;
        let server_first =
            String::from_utf8(start.get_binary_generic("payload").unwrap().clone()).unwrap();
        let last = proof(password, &first, &server_first);
        (self.run(&sasl("saslContinue", &last)).await, last)
    }
}

pub(crate) fn sasl(command: &str, payload: &str) -> Document {
    let payload = Binary {
        subtype: BinarySubtype::Generic,
        bytes: payload.as_bytes().to_vec(),
    };
    doc! { command: 1, "mechanism": "SCRAM-SHA-256", "payload": payload, "conversationId": 1, "$db": "admin", "options": { "skipEmptyExchange": true } }
}

fn proof(password: &str, first: &str, server_first: &str) -> String {
    let field = |name: &str| {
        server_first
            .split(',')
            .find_map(|part| part.strip_prefix(name))
            .unwrap()
    };
    let mac = |key: &[u8], text: &[u8]| -> [u8; 32] {
        Hmac::<Sha256>::new_from_slice(key)
            .unwrap()
            .chain_update(text)
            .finalize()
            .into_bytes()
            .into()
    };
    let mut salted = [0; 32];
    let salt = BASE64.decode(field("s=")).unwrap();
    pbkdf2::pbkdf2_hmac::<Sha256>(
        password.as_bytes(),
        &salt,
        field("i=").parse().unwrap(),
        &mut salted,
    );
    let client_key = mac(&salted, b"Client Key");
    let without_proof = format!("c=biws,r={}", field("r="));
    let mut proof = mac(
        &Sha256::digest(client_key),
        format!("{first},{server_first},{without_proof}").as_bytes(),
    );
    proof
        .iter_mut()
        .zip(client_key)
        .for_each(|(byte, other)| *byte ^= other);
    format!("{without_proof},p={}", BASE64.encode(proof))
}

pub(crate) fn document(document: &Document) -> Vec<u8> {
    bson::serialize_to_vec(document).unwrap()
}

/// An `OP_MSG` around a body.
pub(crate) fn message(body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(HEAD_BYTES + body.len()).unwrap();
    let head: Vec<u8> = [length, 7, 0, 2013, 0]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    [&head[..], &[0], body].concat()
}

/// An `OP_MSG` that wants no answer.
pub(crate) fn unanswered(body: &[u8]) -> Vec<u8> {
    let mut bytes = message(body);
    bytes[16] = 2;
    bytes
}

/// A session's number.
pub(crate) fn lsid(number: u8) -> Document {
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![number; 16],
    };
    doc! { "id": id }
}

/// Runs one command as a user who has logged in by hand.
pub(crate) async fn command(
    world: &World,
    user: &str,
    database: &str,
    command: &Document,
) -> Document {
    let mut wire = Wire::open(world).await;
    wire.log_in(user, PASSWORD).await;
    let mut command = command.clone();
    command.insert("$db", database);
    wire.run(&command).await
}
