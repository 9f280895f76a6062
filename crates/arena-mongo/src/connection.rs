//! One client: reads a message, has its command run, writes the answer, one after
//! the other. Memory for a message grows with what arrives, never with what a
//! client says will arrive, and before login messages are small.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

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
            slot: None,
        }
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
    mut stream: Box<dyn Stream>,
    mut session: Session,
    ending: CancellationToken,
) {
    loop {
        // A half-read message is worth nothing once the connection ends.
        let request = tokio::select! {
            request = read_request(&mut stream, session.user.is_some()) => request,
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
                let result = commands::run(server, &mut session, &request).await;
                if request.is_unanswered {
                    continue;
                }
                let body = result.unwrap_or_else(|error| error.to_answer());
                let answer = wire::encode_reply(request.framing, request_id, &body);
                match request.compressor {
                    Some(compressor) => compression::deflate(answer, compressor),
                    None => answer,
                }
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
        let write = timeout(ANSWER_TIME_MAX, stream.write_all(&answer)).await;
        if !matches!(write, Ok(Ok(()))) || session.failed_logins >= commands::FAILED_LOGINS_MAX {
            return;
        }
    }
}

type Read = (i32, Result<Request, Malformed>);

/// Reads one message; nothing when the client has left between two. A document that breaks a rule leaves
/// the stream usable, anything else does not.
async fn read_request(
    stream: &mut Box<dyn Stream>,
    is_logged_in: bool,
) -> Result<Option<Read>, ConnectionError> {
    let mut head = [0; HEADER_BYTES];
    match stream.read_exact(&mut head[..1]).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(ConnectionError::Io(error)),
    }
    let length_max = if is_logged_in {
        MESSAGE_BYTES_MAX
    } else {
        MESSAGE_BYTES_BEFORE_LOGIN_MAX
    };
    let rest = async {
        stream
            .read_exact(&mut head[1..])
            .await
            .map_err(ConnectionError::Io)?;
        let header = Header::parse(head, length_max).map_err(ConnectionError::Wire)?;
        let payload = read_payload(stream, header.length - HEADER_BYTES).await?;
        Ok((header, payload))
    };
    let (header, payload) = timeout(MESSAGE_TIME_MAX, rest)
        .await
        .map_err(|_| ConnectionError::Slow)??;
    match Request::parse(&header, &head, payload, length_max) {
        Ok(request) => Ok(Some((header.request_id, Ok(request)))),
        Err(WireError::Document(malformed)) => Ok(Some((header.request_id, Err(malformed)))),
        Err(error) => Err(ConnectionError::Wire(error)),
    }
}

async fn read_payload(
    stream: &mut Box<dyn Stream>,
    length: usize,
) -> Result<Bytes, ConnectionError> {
    let mut payload = BytesMut::new();
    let mut limited = stream.take(u64::try_from(length).unwrap_or(u64::MAX));
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
