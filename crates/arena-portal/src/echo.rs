//! A WebSocket for the connection test: it says back what it is told, as much
//! of the protocol as that needs (RFC 6455: short text frames, ping, close).

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Frames of one test; the longest of them fit into the protocol's short form.
const FRAMES_MAX: usize = 100;
const FRAME_BYTES_MAX: u8 = 125;
/// A test that takes longer is over.
const LIMIT: Duration = Duration::from_secs(60);
/// What the protocol adds to a browser's key.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Returns the answer to a WebSocket's beginning and what goes on after it; `None` where it is none.
pub(crate) fn accept(mut request: Request) -> Option<(Response, impl Future<Output = ()> + Send)> {
    let key = key(request.headers())?;
    let accepted = BASE64_STANDARD.encode(Sha1::digest(format!("{key}{KEY_SUFFIX}")));
    let upgrade = hyper::upgrade::on(&mut request);
    let response = http::Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accepted)
        .body(Body::empty())
        .ok()?;
    let echoing = async move {
        let talking = async { say_back(TokioIo::new(upgrade.await.ok()?)).await.ok() };
        // However it ends, the test's page says so.
        let _ = tokio::time::timeout(LIMIT, talking).await;
    };
    Some((response, echoing))
}

fn key(headers: &HeaderMap) -> Option<&str> {
    let is = |name: &http::HeaderName, wanted: &str| {
        headers
            .get(name)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    let key = headers.get(SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    let fits = is(&UPGRADE, "websocket") && is(&SEC_WEBSOCKET_VERSION, "13");
    fits.then_some(key)
}

async fn say_back(mut browser: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    for _ in 0..FRAMES_MAX {
        let (kind, text) = frame(&mut browser).await?;
        let answer = match kind {
            TEXT => TEXT,
            PING => PONG,
            PONG => continue,
            _ => CLOSE,
        };
        let length = u8::try_from(text.len()).unwrap_or(0);
        browser.write_all(&[FIN | answer, length]).await?;
        browser.write_all(&text).await?;
        browser.flush().await?;
        if answer == CLOSE {
            break;
        }
    }
    browser.shutdown().await
}

/// Reads one whole short frame.
async fn frame(browser: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    browser.read_exact(&mut head).await?;
    let (is_whole, length) = (head[0] & FIN != 0, head[1] & !MASKED);
    if !is_whole || head[1] & MASKED == 0 || length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut mask = [0; 4];
    browser.read_exact(&mut mask).await?;
    let mut text = vec![0; usize::from(length)];
    browser.read_exact(&mut text).await?;
    for (byte, key) in text.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Ok((head[0] & 0x0f, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_comes_back_unmasked() {
        let (mut browser, portal) = tokio::io::duplex(256);
        let echoing = tokio::spawn(say_back(portal));
        let mask = [1, 2, 3, 4];
        let masked: Vec<u8> = b"hello"
            .iter()
            .zip(mask.iter().cycle())
            .map(|(a, b)| a ^ b)
            .collect();
        for first in [FIN | TEXT, FIN | CLOSE] {
            browser.write_all(&[first, MASKED | 5]).await.unwrap();
            browser.write_all(&mask).await.unwrap();
            browser.write_all(&masked).await.unwrap();
            let mut answer = [0; 7];
            browser.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer[..2], [first, 5]);
            assert_eq!(&answer[2..], b"hello");
        }
        echoing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_frame_that_is_long_or_unmasked_ends_it() {
        for head in [
            [FIN | TEXT, 5],
            [FIN | TEXT, MASKED | 126],
            [TEXT, MASKED | 5],
        ] {
            let (mut browser, portal) = tokio::io::duplex(256);
            browser.write_all(&head).await.unwrap();
            browser.write_all(&[0; 64]).await.unwrap();
            assert!(say_back(portal).await.is_err(), "{head:?}");
        }
    }
}
