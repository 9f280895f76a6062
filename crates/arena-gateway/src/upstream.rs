//! Connections to seats and the portal. They are pooled under the authority that
//! the plan gave, never under a browser's words, so one seat's request cannot
//! ride on another's connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{
    CaptureConnection, Connected, Connection, capture_connection,
};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

use crate::body::{self, Body};
use crate::{Endpoint, Limits, Routes};

/// Header lines of an answer; more is an answer that breaks off.
const ANSWER_HEADERS_MAX: usize = 200;
/// Bytes of an answer that wait for a slow reader.
const ANSWER_BUFFER_BYTES: usize = 128 << 10;

/// Why there was no answer.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    /// Nobody listens there.
    #[error("cannot connect to {authority}")]
    Unreachable {
        authority: String,
        source: legacy::Error,
    },
    /// It broke off, or what came is no answer.
    #[error("cannot get an answer from {authority}")]
    Broken {
        authority: String,
        source: legacy::Error,
    },
    /// It spoke another protocol that nobody had asked for.
    #[error("cannot understand the answer of {authority}")]
    Nonsense { authority: String },
    /// It did not answer in time.
    #[error("cannot wait longer for {authority}")]
    Late { authority: String },
}

/// All connections to seats and the portal.
#[derive(Clone)]
pub(crate) struct Upstreams {
    pooled: Client<Connector, Body>,
    /// Keeps no connection: for second tries, and for WebSockets, which use theirs up.
    fresh: Client<Connector, Body>,
    answer_wait: Duration,
}

impl Upstreams {
    /// Returns connections that follow the routes as they change.
    pub(crate) fn new(routes: Arc<ArcSwap<Routes>>, limits: &Limits) -> Self {
        let connector = Connector {
            routes,
            wait: limits.connect_wait,
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.pool_idle)
            .set_host(true)
            .http1_max_headers(ANSWER_HEADERS_MAX)
            .http1_max_buf_size(ANSWER_BUFFER_BYTES);
        let pooled = builder.build(connector.clone());
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        Self {
            pooled,
            fresh,
            answer_wait: limits.answer_wait,
        }
    }

    /// Sends a request and returns the head of its answer. A request that can be repeated and
    /// met a connection that its owner had just closed is sent once more on a fresh one.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection it used.
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        let authority = authority_of(request.uri());
        let again = repeatable(&request).then(|| head_of(&request));
        let captured = capture_connection(&mut request);
        let started = Instant::now();
        let first = self.within(&authority, self.pooled.request(request)).await;
        let response = match (first, again) {
            (Err(SendError::Broken { .. }), Some(again)) if was_reused(&captured, started) => {
                self.within(&authority, self.fresh.request(again)).await?
            }
            (first, _) => first?,
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::Nonsense { authority });
        }
        Ok(response)
    }

    /// Sends a request for another protocol on a connection of its own.
    pub(crate) async fn send_upgrade(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        let authority = authority_of(request.uri());
        self.within(&authority, self.fresh.request(request)).await
    }

    async fn within(
        &self,
        authority: &str,
        answer: legacy::ResponseFuture,
    ) -> Result<Response<Incoming>, SendError> {
        let authority = authority.to_owned();
        match tokio::time::timeout(self.answer_wait, answer).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(source)) if source.is_connect() => {
                Err(SendError::Unreachable { authority, source })
            }
            Ok(Err(source)) => Err(SendError::Broken { authority, source }),
            Err(_) => Err(SendError::Late { authority }),
        }
    }
}

fn authority_of(uri: &Uri) -> String {
    uri.authority()
        .map_or(String::new(), |authority| authority.to_string())
}

fn repeatable(request: &Request<Body>) -> bool {
    request.body().is_end_stream() && request.method().is_idempotent()
}

fn head_of(request: &Request<Body>) -> Request<Body> {
    let mut head = Request::new(body::empty());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.headers_mut() = request.headers().clone();
    head
}

/// When a connection was made.
#[derive(Clone, Copy)]
struct MadeAt(Instant);

fn was_reused(captured: &CaptureConnection, started: Instant) -> bool {
    let metadata = captured.connection_metadata();
    let mut extensions = http::Extensions::new();
    if let Some(connected) = metadata.as_ref() {
        connected.get_extras(&mut extensions);
    }
    extensions
        .get::<MadeAt>()
        .is_some_and(|made| made.0 < started)
}

/// Connects to where the routes say an authority listens now.
#[derive(Clone)]
struct Connector {
    routes: Arc<ArcSwap<Routes>>,
    wait: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Wire>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let endpoint = self.routes.load().endpoint(&authority_of(&uri)).cloned();
        let wait = self.wait;
        debug_assert_eq!(
            uri.scheme(),
            Some(&Scheme::HTTP),
            "upstreams speak plain HTTP"
        );
        Box::pin(async move {
            let endpoint = endpoint.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "no route leads there now")
            })?;
            let wire = tokio::time::timeout(wait, connect(endpoint)).await??;
            Ok(TokioIo::new(Wire {
                stream: wire,
                made: Instant::now(),
            }))
        })
    }
}

async fn connect(endpoint: Endpoint) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
    }
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection to a service behind the gateway.
struct Wire {
    stream: Stream,
    made: Instant,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().extra(MadeAt(self.made))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
