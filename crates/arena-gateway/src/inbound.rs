//! A request as the door sees it: the one host it is for, the path that will be
//! forwarded, and what kind of request a browser says it is. What cannot be
//! read in exactly one way is refused here.

use http::header::{ACCEPT, CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, Method, Request, Version};

use crate::head_tap::LengthSeen;
use crate::refusal::Refusal;

pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
pub(crate) const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
pub(crate) const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Where a request is for, read in the only possible way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inbound {
    /// Host name in lower case, without port and final dot.
    pub(crate) host: String,
    /// Host and port as the browser wrote them.
    pub(crate) authority: String,
    /// Path and query to forward.
    pub(crate) path: PathAndQuery,
    /// What the browser wants to do with the answer.
    pub(crate) kind: Kind,
}

/// What the browser wants to do with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Show it in a window.
    Page,
    /// Show it in a frame.
    Frame,
    /// Talk over a WebSocket.
    WebSocket,
    /// Give it to a program.
    Call,
}

impl Kind {
    /// Returns whether a person will see the answer.
    pub(crate) fn is_seen(self) -> bool {
        matches!(self, Self::Page | Self::Frame)
    }
}

impl Inbound {
    /// Reads a request's head.
    ///
    /// # Errors
    /// When host, path or length could be understood in more than one way.
    pub(crate) fn read<B>(request: &Request<B>, length: &LengthSeen) -> Result<Self, Refusal> {
        let headers = request.headers();
        check_framing(headers, length.take())?;
        if request.method() == Method::CONNECT || request.method() == Method::TRACE {
            return Err(Refusal::Method);
        }
        let authority = authority_of(request)?;
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .ok_or(Refusal::Malformed("no path"))?;
        check_path(path.path())?;
        Ok(Self {
            host,
            authority: authority.as_str().to_owned(),
            path,
            kind: kind_of(request),
        })
    }
}

/// hyper has refused contradicting lengths and codings that do not end in `chunked`; what is
/// left is a coding beside a length, and codings other than exactly `chunked`.
fn check_framing(headers: &HeaderMap, length_seen: bool) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Refusal::Malformed("a transfer coding other than chunked"));
    }
    if length_seen {
        return Err(Refusal::Malformed("both a length and a transfer coding"));
    }
    Ok(())
}

/// The target's own authority wins over `Host`, and is what is forwarded.
fn authority_of<B>(request: &Request<B>) -> Result<Authority, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::Malformed("more than one host"));
    }
    if host.is_none() && request.version() == Version::HTTP_11 {
        return Err(Refusal::Malformed("no host"));
    }
    if let Some(scheme) = request.uri().scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return Err(Refusal::Malformed("an unknown scheme"));
    }
    let authority = match (request.uri().authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => {
            Authority::try_from(host.as_bytes()).map_err(|_| Refusal::Malformed("a broken host"))?
        }
        (None, None) => return Err(Refusal::Malformed("no host")),
    };
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(Refusal::Malformed("a broken host"));
    }
    Ok(authority)
}

/// Browsers resolve dot segments themselves; whoever sends one wants two parts to disagree.
fn check_path(path: &str) -> Result<(), Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::Malformed("a path without a slash"));
    }
    let dotted = path.split('/').any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    });
    if dotted || path.contains('\\') {
        return Err(Refusal::Malformed("a path with dot segments"));
    }
    Ok(())
}

fn kind_of<B>(request: &Request<B>) -> Kind {
    let headers = request.headers();
    if is_websocket(request.method(), headers) {
        return Kind::WebSocket;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Kind::Call;
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (text(SEC_FETCH_MODE), text(SEC_FETCH_DEST)) {
        (Some("navigate"), Some("iframe" | "frame")) => Kind::Frame,
        (Some("navigate"), Some("document") | None) => Kind::Page,
        (None, _) if text(ACCEPT).is_some_and(|accept| accept.contains("text/html")) => Kind::Page,
        _ => Kind::Call,
    }
}

fn is_websocket(method: &Method, headers: &HeaderMap) -> bool {
    let upgrades = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let upgrade = upgrades
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let websocket = headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    *method == Method::GET && upgrade && websocket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_refused_however_they_are_written() {
        for path in ["/../x", "/a/./b", "/a/%2e%2E/b", "/a/.%2e", "/a\\b"] {
            assert!(check_path(path).is_err(), "{path}");
        }
        for path in ["/", "/a/..b/", "/a/.well-known/x", "/a/%2ehidden"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn the_targets_authority_wins_over_host() {
        let request = Request::get("http://ada.arena.localhost:8080/x")
            .header("host", "other")
            .body(())
            .unwrap();
        let inbound = Inbound::read(&request, &LengthSeen::default()).unwrap();
        assert_eq!(
            (inbound.host.as_str(), inbound.path.as_str()),
            ("ada.arena.localhost", "/x")
        );
    }
}
