//! Bodies: small ones of our own, a seat's streamed as it comes, a browser's
//! counted and timed while it is read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

use crate::Limits;
use crate::tenure::Ending;

/// Any body that passes through the gateway.
pub(crate) type Body = BoxBody<Bytes, BodyError>;

/// Why a body ended before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    #[error("cannot read the body")]
    Read(#[source] hyper::Error),
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the body paused for too long")]
    Idle,
    #[error("the session it was asked for with has ended")]
    Ended,
}

/// Returns a body of our own.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// Returns no body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Returns an upstream's body as it comes.
pub(crate) fn streamed(incoming: Incoming) -> Body {
    incoming.map_err(BodyError::Read).boxed()
}

/// Returns a body that is cut when somebody has to go.
pub(crate) fn until(ending: Ending, body: Body) -> Body {
    Until { body, ending }.boxed()
}

/// Returns a browser's body, which fails once it breaks a limit.
pub(crate) fn upload(incoming: Incoming, limits: &Limits) -> Body {
    if incoming.is_end_stream() {
        return empty();
    }
    Upload {
        incoming,
        left: limits.body_bytes_max,
        idle: limits.body_idle,
        alarm: Box::pin(tokio::time::sleep(limits.body_idle)),
    }
    .boxed()
}

struct Until {
    body: Body,
    ending: Ending,
}

impl http_body::Body for Until {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Ended)));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Upload {
    incoming: Incoming,
    left: u64,
    idle: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            return this
                .alarm
                .as_mut()
                .poll(cx)
                .map(|()| Some(Err(BodyError::Idle)));
        };
        this.alarm.as_mut().reset(Instant::now() + this.idle);
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(BodyError::Read)?;
            let length = frame.data_ref().map_or(0, Bytes::len);
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            this.left = this.left.checked_sub(length).ok_or(BodyError::TooLarge)?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
