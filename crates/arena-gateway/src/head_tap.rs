//! Sees what hyper takes away. hyper removes `Content-Length` from a request
//! that also has `Transfer-Encoding`, goes by the latter and closes the
//! connection afterwards; we want to refuse such a request. [`HeadTap`] watches
//! the bytes of a connection for lines that begin with `content-length`, and the
//! door asks it about requests that have a `Transfer-Encoding`.
//!
//! It does not know where bodies begin, so a chunked body with such a line in
//! its first bytes is refused as well. Browsers never send chunked requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const NAME: &[u8] = b"content-length";

/// Whether a line with a length came since this was last asked.
#[derive(Clone, Default)]
pub(crate) struct LengthSeen(Arc<AtomicBool>);

impl LengthSeen {
    /// Returns whether a length was announced, and forgets it.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// A connection whose incoming bytes are watched.
pub(crate) struct HeadTap<S> {
    stream: S,
    seen: LengthSeen,
    line: Line,
}

/// How far the current line agrees with [`NAME`]; `None`: it does not.
#[derive(Default)]
struct Line(Option<usize>);

impl Line {
    fn saw_length(&mut self, bytes: &[u8]) -> bool {
        let mut seen = false;
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.0 {
                None => match rest.iter().position(|byte| *byte == b'\n') {
                    None => return seen,
                    Some(at) => {
                        self.0 = Some(0);
                        rest = &rest[at + 1..];
                    }
                },
                Some(matched) => {
                    // A line feed right here is an empty line: the next line begins.
                    self.0 = match rest[0] {
                        b'\n' => Some(0),
                        byte if byte.eq_ignore_ascii_case(&NAME[matched]) => Some(matched + 1),
                        _ => None,
                    };
                    if self.0 == Some(NAME.len()) {
                        seen = true;
                        self.0 = None;
                    }
                    rest = &rest[1..];
                }
            }
        }
        seen
    }
}

impl<S> HeadTap<S> {
    /// Returns the watched connection and what it saw.
    pub(crate) fn new(stream: S) -> (Self, LengthSeen) {
        let seen = LengthSeen::default();
        (
            Self {
                stream,
                seen: seen.clone(),
                line: Line::default(),
            },
            seen,
        )
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadTap<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.line.saw_length(&buf.filled()[before..]) {
            this.seen.0.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadTap<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_line_is_seen_however_it_is_cut() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nCONTENT-length: 3\r\n\r\n";
        for cut in 0..head.len() {
            let mut line = Line::default();
            let first = line.saw_length(&head[..cut]);
            let second = line.saw_length(&head[cut..]);
            assert!(first || second, "cut at {cut}");
        }
    }

    #[test]
    fn other_lines_are_not_lengths() {
        let mut line = Line::default();
        assert!(!line.saw_length(
            b"GET /content-length HTTP/1.1\r\nx-content-length: 3\r\ncontent-lengt: 1\r\n\r\n"
        ));
    }
}
