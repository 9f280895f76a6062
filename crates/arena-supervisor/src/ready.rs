//! When a child counts as ready. Checks are asked again, at first often, then
//! four times a second, until they say yes or the child's time is over.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::output::Follow;

/// A single question may take this long.
const ASK_LIMIT: Duration = Duration::from_secs(2);
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// A question answered by the caller's code.
pub(crate) type Ask = dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync;

/// When a child counts as ready.
#[derive(Clone)]
pub enum Ready {
    /// As soon as it runs.
    Started,
    /// When this port of 127.0.0.1 (or ::1) accepts a connection.
    Port(u16),
    /// When this unix socket accepts a connection.
    Socket(PathBuf),
    /// When a GET of this path on a port of 127.0.0.1 is answered with 200.
    Http(u16, String),
    /// When a GET of this path on a unix socket is answered with 200.
    HttpSocket(PathBuf, String),
    /// When a line of its output contains this text.
    Line(String),
    /// When this says so.
    Custom(Arc<Ask>),
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ready::Started => f.write_str("started"),
            Ready::Port(port) => write!(f, "port {port} open"),
            Ready::Socket(path) => write!(f, "socket {} open", path.display()),
            Ready::Http(port, path) => write!(f, "200 from port {port}, {path}"),
            Ready::HttpSocket(socket, path) => write!(f, "200 from {}, {path}", socket.display()),
            Ready::Line(text) => write!(f, "a line with `{text}`"),
            Ready::Custom(_) => f.write_str("its own check"),
        }
    }
}

impl Ready {
    /// Returns when the check says yes. `output` must have begun before the child.
    pub(crate) async fn wait(&self, mut output: Option<Follow>) {
        if let (Ready::Line(text), Some(output)) = (self, &mut output) {
            while let Some(line) = output.next().await {
                if line.contains(text.as_str()) {
                    return;
                }
            }
            return std::future::pending().await;
        }
        let mut wait = FIRST_WAIT;
        while !tokio::time::timeout(ASK_LIMIT, self.ask())
            .await
            .unwrap_or(false)
        {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Asks once.
    pub async fn ask(&self) -> bool {
        match self {
            Ready::Started | Ready::Line(_) => true,
            Ready::Port(port) => connect(*port).await.is_some(),
            Ready::Socket(path) => UnixStream::connect(path).await.is_ok(),
            Ready::Http(port, path) => match connect(*port).await {
                Some(stream) => answers_ok(stream, path).await.unwrap_or(false),
                None => false,
            },
            Ready::HttpSocket(socket, path) => match UnixStream::connect(socket).await {
                Ok(stream) => answers_ok(stream, path).await.unwrap_or(false),
                Err(_) => false,
            },
            Ready::Custom(ask) => ask().await,
        }
    }
}

/// Node listens on `::1` when it is told `localhost`.
async fn connect(port: u16) -> Option<TcpStream> {
    match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(stream) => Some(stream),
        Err(_) => TcpStream::connect(("::1", port)).await.ok(),
    }
}

/// Asks for a path and reads the status line only.
async fn answers_ok(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
) -> std::io::Result<bool> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut start = [0_u8; 12];
    stream.read_exact(&mut start).await?;
    Ok(start.starts_with(b"HTTP/1.") && start.ends_with(b" 200"))
}
