//! One client: reads a message, has its command run, writes the answer, one after
//! the other. Memory for a message grows with what arrives, never with what a
//! client says will arrive, and before login messages are small. When a client
//! leaves while its command runs, the command is interrupted.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bson::RawDocument;
use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::aside::{self, Aside, Turn};
use crate::commands;
use crate::compression;
use crate::error::CommandError;
use crate::guard::Slot;
use crate::scram::Conversation;
use crate::server::{Server, Stream};
use crate::strict::Malformed;
use crate::wire::{self, HEADER_BYTES, Header, MESSAGE_BYTES_MAX, Request, WireError};

/// Enough for any handshake.
const MESSAGE_BYTES_BEFORE_LOGIN_MAX: usize = 64 * 1024;
/// What is read at once, and kept of a next message while a command runs.
const READ_AHEAD_BYTES: usize = 8 * 1024;
/// A message that has begun must end in this time.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);
/// An answer must be taken in this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// What is known about one client.
pub(crate) struct Session {
    pub(crate) id: i32,
    /// The only user who may log in here.
    pub(crate) allowed_user: Option<Arc<str>>,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) conversation: Option<(Conversation, bool)>,
    pub(crate) failed_logins: u32,
    /// What it says it is.
    pub(crate) application: Option<Arc<str>>,
    /// One of the user's connections.
    pub(crate) slot: Option<Slot>,
}

impl Session {
    pub(crate) fn new(id: i32, allowed_user: Option<Arc<str>>) -> Self {
        Self {
            id,
            allowed_user,
            user: None,
            conversation: None,
            failed_logins: 0,
            application: None,
            slot: None,
        }
    }

    /// Those who have not logged in have one turn together.
    fn turn<'a>(&'a self, strangers: &'a Turn) -> &'a Turn {
        self.slot.as_ref().map_or(strangers, Slot::turn)
    }
}

#[derive(Debug, Error)]
enum ConnectionError {
    #[error("the connection failed")]
    Io(#[source] io::Error),
    #[error("the client was too slow")]
    Slow,
    #[error("the client does not speak the protocol")]
    Wire(#[source] WireError),
}

/// Serves one client until it leaves, breaks the protocol, or `ending`.
pub(crate) async fn run(
    server: &Server,
    stream: Box<dyn Stream>,
    mut session: Session,
    ending: CancellationToken,
) {
    let mut client = Client::new(stream);
    loop {
        // A half-read message is worth nothing once the connection ends.
        let request = tokio::select! {
            request = client.request(&session, &server.strangers) => request,
            () = ending.cancelled() => return,
        };
        let (request_id, request) = match request {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(error = %crate::error::chain(&error), "ended a database client's connection");
                return;
            }
        };
        let answer = match request {
            Ok(request) => {
                let asked = (request_id, &request);
                let Some(answer) = attended(server, &mut client, &mut session, asked).await else {
                    return;
                };
                if request.is_unanswered {
                    continue;
                }
                answer
            }
            Err(malformed) => {
                let error = CommandError::new(22, "InvalidBSON", malformed.to_string());
                wire::encode_reply(
                    wire::Framing::Msg { checksum: false },
                    request_id,
                    &error.to_answer(),
                )
            }
        };
        let write = timeout(ANSWER_TIME_MAX, client.send(&answer)).await;
        if !matches!(write, Ok(Ok(()))) || session.failed_logins >= commands::FAILED_LOGINS_MAX {
            return;
        }
    }
}

/// Runs a command as long as its client is there, and returns the message to send; nothing when it has left. A command
/// without an answer is nobody's to wait for, and runs in any case.
async fn attended(
    server: &Server,
    client: &mut Client,
    session: &mut Session,
    (request_id, request): (i32, &Request),
) -> Option<BytesMut> {
    let interruption = CancellationToken::new();
    let turn = session.turn(&server.strangers).clone();
    let command = pin!(async {
        let result = commands::run(server, session, request, &interruption).await;
        result.unwrap_or_else(|error| error.to_answer())
    });
    let message = (commands::content(&request.body), request.bytes());
    let mut command = Aside::new(command, message, &turn);
    // The command goes on below when the client has left; what was read of the next message is kept.
    tokio::select! {
        biased;
        body = &mut command => return Some(encoded(&body, (request_id, request), &turn).await),
        () = client.left(), if !request.is_unanswered => {}
    }
    if timeout(commands::patience(request), &mut command)
        .await
        .is_err()
    {
        interruption.cancel();
        // It undoes what it has begun.
        let _ = command.await;
    }
    None
}

/// The message with an answer.
async fn encoded(
    body: &RawDocument,
    (request_id, request): (i32, &Request),
    turn: &Turn,
) -> BytesMut {
    aside::work(body.as_bytes().len(), turn, || {
        let answer = wire::encode_reply(request.framing, request_id, body);
        match request.compressor {
            Some(compressor) => compression::deflate(answer, compressor),
            None => answer,
        }
    })
    .await
}

type Read = (i32, Result<Request, Malformed>);

/// A client's stream, and what came of it before it was asked for.
struct Client {
    stream: Box<dyn Stream>,
    ahead: BytesMut,
}

impl Client {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            ahead: BytesMut::new(),
        }
    }

    /// Reads one message; nothing when the client has left between two. A document that breaks a rule leaves
    /// the stream usable, anything else does not.
    async fn request(
        &mut self,
        session: &Session,
        strangers: &Turn,
    ) -> Result<Option<Read>, ConnectionError> {
        if self.ahead.is_empty() && !self.read_ahead().await.map_err(ConnectionError::Io)? {
            return Ok(None);
        }
        let length_max = if session.user.is_some() {
            MESSAGE_BYTES_MAX
        } else {
            MESSAGE_BYTES_BEFORE_LOGIN_MAX
        };
        let rest = async {
            let head = self.head().await?;
            let header = Header::parse(head, length_max).map_err(ConnectionError::Wire)?;
            let payload = self.payload(header.length - HEADER_BYTES).await?;
            Ok((head, header, payload))
        };
        let (head, header, payload) = timeout(MESSAGE_TIME_MAX, rest)
            .await
            .map_err(|_| ConnectionError::Slow)??;
        let bytes = compression::inflated_length(&header, &payload);
        let turn = session.turn(strangers);
        let parse = || Request::parse(&header, &head, payload, length_max);
        match aside::work(bytes, turn, parse).await {
            Ok(request) => Ok(Some((header.request_id, Ok(request)))),
            Err(WireError::Document(malformed)) => Ok(Some((header.request_id, Err(malformed)))),
            Err(error) => Err(ConnectionError::Wire(error)),
        }
    }

    async fn head(&mut self) -> Result<[u8; HEADER_BYTES], ConnectionError> {
        while self.ahead.len() < HEADER_BYTES {
            if !self.read_ahead().await.map_err(ConnectionError::Io)? {
                return Err(ConnectionError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let mut head = [0; HEADER_BYTES];
        self.ahead.copy_to_slice(&mut head);
        Ok(head)
    }

    async fn payload(&mut self, length: usize) -> Result<Bytes, ConnectionError> {
        let here = self.ahead.len().min(length);
        let mut payload = BytesMut::from(&self.ahead[..here]);
        self.ahead.advance(here);
        let rest = u64::try_from(length - here).unwrap_or(u64::MAX);
        let mut limited = (&mut self.stream).take(rest);
        while payload.len() < length {
            let read = limited
                .read_buf(&mut payload)
                .await
                .map_err(ConnectionError::Io)?;
            if read == 0 {
                return Err(ConnectionError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(payload.freeze())
    }

    /// Reads what has come, as much as there is room for; false when the client has left.
    async fn read_ahead(&mut self) -> io::Result<bool> {
        let room = READ_AHEAD_BYTES.saturating_sub(self.ahead.len());
        self.ahead.reserve(room);
        let mut limited = (&mut self.stream).take(u64::try_from(room).unwrap_or(u64::MAX));
        Ok(limited.read_buf(&mut self.ahead).await? > 0)
    }

    async fn send(&mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.write_all(answer).await?;
        // TLS keeps what a full socket did not take.
        self.stream.flush().await
    }

    /// Returns when the client has left. Of one that sends on and on without reading its answers this is not
    /// known.
    async fn left(&mut self) {
        while self.ahead.len() < READ_AHEAD_BYTES {
            if !matches!(self.read_ahead().await, Ok(true)) {
                return;
            }
        }
        pending().await
    }
}
