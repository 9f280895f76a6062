//! Relays a WebSocket between browser and seat. An idle one keeps no buffer:
//! bytes are read into one scratch buffer per thread, and only what the other
//! side would not take at once is kept. Frames pass unchanged; between two of
//! them we add a ping where all is silent (proxies cut idle connections) and a
//! close when the gateway ends.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::frames::{Frames, GOING_AWAY, PING};

/// Bytes read at once.
const SCRATCH_BYTES: usize = 32 << 10;
/// After one side has ended, time for the other.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Relays until both sides have ended, or a moment after one has or `ending` was called.
pub(crate) async fn relay(
    browser: impl AsyncRead + AsyncWrite + Unpin,
    seat: impl AsyncRead + AsyncWrite + Unpin,
    ping_every: Duration,
    ending: CancellationToken,
) {
    let mut relay = Relay {
        browser,
        seat,
        up: Direction::default(),
        down: Direction::default(),
        ping_every,
        ping: Box::pin(tokio::time::sleep(ping_every)),
        is_ending: false,
    };
    // Either branch may be dropped halfway: what was read and not yet written is in `relay`.
    tokio::select! {
        _ = poll_fn(|cx| relay.poll(cx)) => {}
        () = ending.cancelled() => relay.is_ending = true,
    }
    let rest = tokio::time::timeout(CLOSE_WAIT, poll_fn(|cx| relay.poll_rest(cx))).await;
    tracing::trace!(is_whole = matches!(rest, Ok(Ok(()))), "a WebSocket ended");
}

struct Relay<B, S> {
    browser: B,
    seat: S,
    up: Direction,
    down: Direction,
    ping_every: Duration,
    ping: Pin<Box<Sleep>>,
    is_ending: bool,
}

impl<B: AsyncRead + AsyncWrite + Unpin, S: AsyncRead + AsyncWrite + Unpin> Relay<B, S> {
    /// Ready when one side has ended or failed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = self.up.poll(&mut self.browser, &mut self.seat, cx) {
            return Poll::Ready(result);
        }
        let before = self.down.passed;
        if let Poll::Ready(result) = self.down.poll(&mut self.seat, &mut self.browser, cx) {
            return Poll::Ready(result);
        }
        if self.down.passed != before {
            self.ping.as_mut().reset(Instant::now() + self.ping_every);
        }
        while self.ping.as_mut().poll(cx).is_ready() {
            self.ping.as_mut().reset(Instant::now() + self.ping_every);
            if self.down.add(&PING)
                && let Poll::Ready(result) = self.down.poll(&mut self.seat, &mut self.browser, cx)
            {
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    }

    /// Ready when both sides have ended.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_ending && !self.down.is_last && self.down.add(&GOING_AWAY) {
            self.down.is_last = true;
        }
        let down = self.down.poll(&mut self.seat, &mut self.browser, cx)?;
        let up = self.up.poll(&mut self.browser, &mut self.seat, cx)?;
        ready!(down);
        ready!(up);
        Poll::Ready(Ok(()))
    }
}

/// One direction: what was read and the other side would not take yet, and where its frames are.
#[derive(Default)]
struct Direction {
    waiting: Vec<u8>,
    written: usize,
    frames: Frames,
    passed: u64,
    /// Nothing more is read; what waits is still written.
    is_last: bool,
    is_done: bool,
}

impl Direction {
    /// Adds a frame of ours, where one may go.
    fn add(&mut self, frame: &[u8]) -> bool {
        let fits =
            self.frames.is_between() && self.waiting.is_empty() && !self.is_last && !self.is_done;
        if fits {
            self.waiting.extend_from_slice(frame);
        }
        fits
    }

    /// Moves bytes until neither side can go on; ready at the end of this direction.
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_done {
            ready!(self.poll_waiting(to, cx))?;
            if self.is_last {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.is_done = true;
                break;
            }
            let moved = SCRATCH.with_borrow_mut(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut buf))?;
                Poll::Ready(self.take(buf.filled(), to, cx))
            });
            match moved {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    // What was written must not stay in a buffer below while all is quiet.
                    if let Poll::Ready(result) = Pin::new(&mut *to).poll_flush(cx) {
                        result?;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_waiting(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.waiting = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Writes what was just read; keeps what does not go now.
    fn take(
        &mut self,
        bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        self.is_last = bytes.is_empty();
        self.frames.pass(bytes);
        self.passed = self
            .passed
            .wrapping_add(u64::try_from(bytes.len()).unwrap_or(0));
        let mut rest = bytes;
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => rest = &rest[written..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.waiting.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(())
    }
}
