//! Carries one request to whoever answers it and the answer back, with the
//! headers made fit in both directions; and opens WebSockets.

use std::net::IpAddr;
use std::time::Duration;

use arena_workshop::plan::AppKind;
use http::header::{CONNECTION, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::{self, Body};
use crate::headers::{self, Said};
use crate::inbound::{Inbound, Kind};
use crate::refusal::Refusal;
use crate::relay::relay;
use crate::tenure::Tenure;
use crate::upstream::{SendError, Upstreams};
use crate::{Settings, Upstream};

/// What the agent says when it answers in place of an app or the editor.
const AGENT_ERROR: &str = "x-arena-error";
/// Time for both ends to give their connection away after they agreed to a WebSocket.
const UPGRADE_WAIT: Duration = Duration::from_secs(10);

/// Who answers, and how far it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The platform's own portal.
    Platform,
    /// A seat: whatever it says may be hostile.
    Seat,
}

/// A request on its way.
pub(crate) struct Passage<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) upstreams: &'a Upstreams,
    pub(crate) relays: &'a TaskTracker,
    pub(crate) ending: &'a CancellationToken,
    pub(crate) peer: IpAddr,
    pub(crate) inbound: &'a Inbound,
    pub(crate) upstream: &'a Upstream,
    pub(crate) said: Said<'a>,
    pub(crate) trust: Trust,
    /// With what right; `None`: nobody's.
    pub(crate) tenure: Option<Tenure>,
}

impl Passage<'_> {
    /// Sends the request and returns the answer, its body still streaming.
    ///
    /// # Errors
    /// When nobody listens, or what comes is no answer.
    pub(crate) async fn forward(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        if self.inbound.kind == Kind::WebSocket {
            return self.forward_websocket(request).await;
        }
        self.prepare(&mut request)?;
        let limits = &self.settings.limits;
        let request = request.map(|incoming| body::upload(incoming, limits));
        let answer = self
            .upstreams
            .send(request)
            .await
            .map_err(|error| self.refusal(error))?;
        match self.explained(&answer) {
            Some(refusal) => Err(refusal),
            None => Ok(self.passed_back(answer)),
        }
    }

    /// Where a person would see the agent's own short answer, a page of ours explains it.
    fn explained(&self, answer: &Response<Incoming>) -> Option<Refusal> {
        if self.trust != Trust::Seat || !self.inbound.kind.is_seen() {
            return None;
        }
        match answer.headers().get(AGENT_ERROR)?.as_bytes() {
            b"app-not-running" => app_of(self.inbound.path.path()).map(Refusal::AppDown),
            b"app-bad-answer" => Some(Refusal::BrokenAnswer),
            b"editor-not-ready" => Some(Refusal::EditorDown),
            b"no-route" => Some(Refusal::UnknownPage),
            _ => None,
        }
    }

    async fn forward_websocket(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        // Bytes of a body would become bytes of the WebSocket.
        if !request.body().is_end_stream() {
            return Err(Refusal::Malformed("a WebSocket's beginning with a body"));
        }
        let browser = hyper::upgrade::on(&mut request);
        self.prepare(&mut request)?;
        say_websocket(request.headers_mut());
        let request = request.map(|_| body::empty());
        let mut answer = self
            .upstreams
            .send_upgrade(request)
            .await
            .map_err(|error| self.refusal(error))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(self.passed_back(answer));
        }
        if !answer
            .headers()
            .get(UPGRADE)
            .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        {
            return Err(Refusal::BrokenAnswer);
        }
        let seat = hyper::upgrade::on(&mut answer);
        let (ping_every, ending) = (self.settings.limits.ping_every, self.ending.child_token());
        let tenure = self.tenure.clone();
        self.relays.spawn(async move {
            let both = async { tokio::try_join!(browser, seat) };
            match tokio::time::timeout(UPGRADE_WAIT, both).await {
                Ok(Ok((browser, seat))) => {
                    let told = ending.clone();
                    let relaying =
                        relay(TokioIo::new(browser), TokioIo::new(seat), ping_every, told);
                    let leaving = async {
                        match tenure {
                            Some(tenure) => tenure.ended().await,
                            None => std::future::pending().await,
                        }
                        ending.cancel();
                        std::future::pending::<()>().await;
                    };
                    // The second only tells the first to end.
                    tokio::select! { () = relaying => {} () = leaving => {} }
                }
                Ok(Err(error)) => tracing::debug!(%error, "a WebSocket ended before it began"),
                Err(_) => tracing::debug!("a WebSocket never began"),
            }
        });
        let mut response = self.passed_back(answer);
        *response.body_mut() = body::empty();
        say_websocket(response.headers_mut());
        Ok(response)
    }

    fn prepare(&self, request: &mut Request<Incoming>) -> Result<(), Refusal> {
        *request.uri_mut() = uri(&self.upstream.authority, &self.inbound.path)?;
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        headers::clean_request(headers);
        headers::say_origin(
            headers,
            self.peer,
            &self.settings.address.scheme,
            &self.inbound.authority,
        );
        headers::say(headers, &self.said);
        Ok(())
    }

    fn passed_back(&self, answer: Response<Incoming>) -> Response<Body> {
        // What has a length ends soon; what has none may go on for hours.
        let goes_on = answer.body().size_hint().exact().is_none();
        let ending = self.tenure.clone().filter(|_| goes_on).map(Tenure::ended);
        let mut response = answer.map(|body| {
            let streamed = body::streamed(body);
            match ending {
                Some(ending) => body::until(ending, streamed),
                None => streamed,
            }
        });
        *response.version_mut() = Version::HTTP_11;
        headers::clean_answer(response.headers_mut());
        if self.trust == Trust::Seat {
            headers::confine_seat(
                response.headers_mut(),
                self.inbound.path.path(),
                &self.upstream.authority,
            );
        }
        response
    }

    fn refusal(&self, error: SendError) -> Refusal {
        let refusal = match (&error, self.trust) {
            (SendError::Unreachable { .. }, Trust::Seat) => Refusal::SeatDown,
            (SendError::Unreachable { .. }, Trust::Platform) => Refusal::PortalDown,
            (SendError::Broken { source, .. }, _) if is_upload_error(source) => {
                Refusal::Malformed("a body that is too large, too slow or broken")
            }
            (SendError::Broken { .. } | SendError::Nonsense { .. }, _) => Refusal::BrokenAnswer,
            (SendError::Late { .. }, _) => Refusal::Late,
        };
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::info!(error, code = refusal.code(), "a request found no answer");
        refusal
    }
}

/// Whether the browser's own body was at fault.
fn is_upload_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<body::BodyError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn say_websocket(headers: &mut http::HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn uri(authority: &str, path: &PathAndQuery) -> Result<Uri, Refusal> {
    Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(path.clone())
        .build()
        .map_err(|error| Refusal::broken("cannot write an upstream's address", &error))
}

/// Only for words: which app a path means is decided inside the seat.
fn app_of(path: &str) -> Option<AppKind> {
    match path.split('/').nth(1)? {
        "backend" => Some(AppKind::Backend),
        "app" => Some(AppKind::Frontend),
        "react" => Some(AppKind::React),
        "postgres" => Some(AppKind::Postgres),
        _ => None,
    }
}
