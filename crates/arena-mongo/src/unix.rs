//! A unix socket that wakes its reader for what can be read and for nothing else.
//! The kernel tells a writer each time the other side has taken something; the
//! runtime's own sockets ask for that always, and wake up once more for every
//! message they send. This one asks only while it could not write.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// What is read at once: about as much as the kernel holds of a unix socket.
const READ_BYTES_MAX: usize = 128 * 1024;

/// A connected unix socket.
#[derive(Debug)]
pub(crate) struct QuietStream {
    reading: AsyncFd<UnixStream>,
    /// The same socket, while there is no room to write.
    writing: Option<AsyncFd<UnixStream>>,
}

impl QuietStream {
    /// Connects to a socket of this machine.
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        Self::new(tokio::net::UnixStream::connect(path).await?)
    }

    /// Takes over a connected socket.
    pub(crate) fn new(stream: tokio::net::UnixStream) -> io::Result<Self> {
        let reading = watched(stream.into_std()?, Interest::READABLE)?;
        Ok(Self {
            reading,
            writing: None,
        })
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that may close or change their descriptor; this one does not"
)]
fn watched(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}

impl AsyncRead for QuietStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.reading.poll_read_ready(cx))?;
            let room = into.remaining().min(READ_BYTES_MAX);
            let unfilled = into.initialize_unfilled_to(room);
            let mut socket: &UnixStream = ready.get_inner();
            match socket.read(unfilled) {
                Ok(read) => {
                    // It was all there is: the next one need not be asked for in vain.
                    if 0 < read && read < room {
                        ready.clear_ready();
                    }
                    into.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for QuietStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut socket: &UnixStream = self.reading.get_ref();
            match socket.write(bytes) {
                Ok(written) => {
                    self.writing = None;
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if let Some(writing) = &self.writing {
                ready!(writing.poll_write_ready(cx))?.clear_ready();
            } else {
                let again = self.reading.get_ref().try_clone()?;
                self.writing = Some(watched(again, Interest::WRITABLE)?);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.reading.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (QuietStream, tokio::net::UnixStream) {
        let (one, other) = tokio::net::UnixStream::pair().unwrap();
        (QuietStream::new(one).unwrap(), other)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn more_than_fits_goes_through_both_ways_at_once() {
        let (quiet, mut other) = pair();
        let bytes: Vec<u8> = (0..1_250_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let sent = bytes.clone();
        let (mut from, mut to) = tokio::io::split(quiet);
        let writing = tokio::spawn(async move {
            for part in sent.chunks(700_001) {
                to.write_all(part).await.unwrap();
            }
            to.shutdown().await.unwrap();
        });
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            from.read_to_end(&mut read).await.unwrap();
            read
        });
        let (mut out, mut back) = (Vec::new(), bytes.as_slice());
        let (mut others_from, mut others_to) = other.split();
        let (took, gave) = tokio::join!(others_from.read_to_end(&mut out), async {
            others_to.write_all_buf(&mut back).await.unwrap();
            others_to.shutdown().await
        });
        took.unwrap();
        gave.unwrap();
        writing.await.unwrap();
        assert!(out == bytes);
        assert!(reading.await.unwrap() == bytes);
    }

    /// Reads of every size against a writer of every size, one message at a time.
    #[tokio::test]
    async fn each_message_wakes_the_reader() {
        let (mut quiet, mut other) = pair();
        for size in [1, 15, 16, 17, 1_000, 8_192, 100_000] {
            let bytes = vec![7; size];
            for room in [1, 16, 8_192, 500_000] {
                let mut read = Vec::new();
                let reading = async {
                    while read.len() < size {
                        let mut part = vec![0; room];
                        let length = quiet.read(&mut part).await.unwrap();
                        assert!(length > 0);
                        read.extend_from_slice(&part[..length]);
                    }
                };
                let writing = async {
                    tokio::task::yield_now().await;
                    other.write_all(&bytes).await.unwrap();
                };
                tokio::join!(reading, writing);
                assert_eq!(read, bytes);
            }
        }
        drop(other);
        assert_eq!(quiet.read(&mut [0; 10]).await.unwrap(), 0);
        assert!(quiet.write_all(b"nobody is there").await.is_err());
    }
}
