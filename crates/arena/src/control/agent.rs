//! Control's side of the conversation with a seat's agent. What comes back is
//! hostile input: every answer is bounded in size and time.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use arena_seat::AgentEvent;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// A line of the agent's event stream.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The agent answers from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The agent sends a beat every 15 s; three missing ones mean that it hangs.
const SILENCE_MAX: Duration = Duration::from_secs(50);

/// How to reach the agent of one seat.
#[derive(Debug, Clone)]
pub(crate) struct AgentClient {
    /// The listener that the platform bound.
    pub(crate) socket: PathBuf,
    /// `{seat}.{generation}.invalid`.
    pub(crate) authority: String,
}

/// The agent's event stream.
pub(crate) struct AgentEvents {
    body: Incoming,
    buffer: Vec<u8>,
    _connection: JoinSet<Result<(), hyper::Error>>,
}

impl AgentClient {
    /// Tells the agent to do something that it acknowledges at once.
    ///
    /// # Errors
    /// When the agent does not answer in 5 seconds, or refuses.
    pub(crate) async fn tell(&self, path: &str) -> anyhow::Result<()> {
        let (response, _connection) =
            tokio::time::timeout(ANSWER_TIMEOUT, self.send(Method::POST, path))
                .await
                .context("the agent does not answer")??;
        if !response.status().is_success() {
            bail!("the agent answered {} to {path}", response.status());
        }
        Ok(())
    }

    /// Opens the event stream; its first event is the seat's full health.
    ///
    /// # Errors
    /// When the agent does not answer in 5 seconds.
    pub(crate) async fn events(&self) -> anyhow::Result<AgentEvents> {
        let (response, connection) =
            tokio::time::timeout(ANSWER_TIMEOUT, self.send(Method::GET, "/events"))
                .await
                .context("the agent does not answer")??;
        if !response.status().is_success() {
            bail!("the agent answered {} to /events", response.status());
        }
        Ok(AgentEvents {
            body: response.into_body(),
            buffer: Vec::new(),
            _connection: connection,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
    ) -> anyhow::Result<(http::Response<Incoming>, JoinSet<Result<(), hyper::Error>>)> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .context("cannot reach the agent")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .context("cannot talk to the agent")?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
            .header("x-arena-surface", "agent")
            .body(Empty::<Bytes>::new())
            .context("cannot make a request to the agent")?;
        let response = sender
            .send_request(request)
            .await
            .context("the agent broke off")?;
        Ok((response, driver))
    }
}

impl AgentEvents {
    /// Returns the next event; `None` when the agent ended the stream.
    ///
    /// # Errors
    /// When the agent is silent for 50 seconds, breaks off, or sends something else than events.
    ///
    /// # Cancellation
    /// May be dropped: what was read so far is kept for the next call.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<AgentEvent>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .context("cannot read the agent's event");
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                bail!("the agent sent an event of more than {LINE_BYTES_MAX} bytes");
            }
            match tokio::time::timeout(SILENCE_MAX, self.body.frame())
                .await
                .context("the agent is silent")?
            {
                Some(frame) => {
                    if let Ok(data) = frame.context("the agent broke off")?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}
