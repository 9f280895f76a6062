//! Which header lines pass, in both directions. Lines that belong to one
//! connection go first, then what the sender may not say, then what we say is set.

use std::net::IpAddr;

use arena_workshop::SeatId;
use arena_workshop::plan::Surface;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALT_SVC,
    CONNECTION, CONTENT_SECURITY_POLICY, EXPECT, FORWARDED, HOST, LOCATION, PROXY_AUTHORIZATION,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Settings, cookies};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const SERVICE_WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");

/// Lines that speak about one connection, besides those that `Connection` names.
const OF_A_CONNECTION: [HeaderName; 7] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Lines of a seat's answer that would reach beyond its own pages.
const BEYOND_A_SEAT: [HeaderName; 12] = [
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("reporting-endpoints"),
    ALT_SVC,
    STRICT_TRANSPORT_SECURITY,
    // There is no sharing between origins anywhere in an event.
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// What the gateway says about a request to whoever answers it.
#[derive(Debug, Default)]
pub(crate) struct Said<'a> {
    pub(crate) surface: &'static str,
    pub(crate) seat: Option<&'a SeatId>,
    pub(crate) user: Option<&'a str>,
    pub(crate) principal: Option<String>,
    pub(crate) session: Option<&'a str>,
}

/// Makes a browser's headers fit to be forwarded.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    remove_connection_lines(headers);
    headers.remove(EXPECT);
    headers.remove(TRAILER);
    headers.remove(HOST);
    headers.remove(FORWARDED);
    headers.remove("x-real-ip");
    remove_starting(headers, "x-forwarded-");
    remove_starting(headers, "x-arena-");
    cookies::strip(headers);
}

/// Sets what only the gateway may say; call after [`clean_request`].
pub(crate) fn say(headers: &mut HeaderMap, said: &Said<'_>) {
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set("x-arena-surface", said.surface);
    if let Some(seat) = said.seat {
        set("x-arena-seat", seat.as_str());
    }
    if let Some(user) = said.user {
        set("x-arena-user", &percent_encoded(user));
    }
    if let Some(principal) = &said.principal {
        set("x-arena-principal", principal);
    }
    if let Some(session) = said.session {
        set("x-arena-session", session);
    }
}

/// Sets where a request came from; call after [`clean_request`].
pub(crate) fn say_origin(headers: &mut HeaderMap, peer: IpAddr, scheme: &str, authority: &str) {
    let peer = peer.to_string();
    for (name, value) in [
        ("x-forwarded-for", peer.as_str()),
        ("x-forwarded-proto", scheme),
        ("x-forwarded-host", authority),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// Makes an answer fit to be given to a browser, whoever made it.
pub(crate) fn clean_answer(headers: &mut HeaderMap) {
    remove_connection_lines(headers);
    remove_starting(headers, "x-arena-");
}

/// Removes from a seat's answer what would reach beyond the seat's own pages.
pub(crate) fn confine_seat(headers: &mut HeaderMap, path: &str, upstream_authority: &str) {
    cookies::keep_own(headers);
    for name in &BEYOND_A_SEAT {
        headers.remove(name);
    }
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    if headers
        .get(SERVICE_WORKER_ALLOWED)
        .is_some_and(|scope| !is_within(scope, folder))
    {
        headers.remove(SERVICE_WORKER_ALLOWED);
    }
    // The upstream was asked under a name that no browser knows.
    let own = format!("http://{upstream_authority}");
    let relative = headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix(own.as_str()))
        .filter(|rest| rest.starts_with('/') && !rest.starts_with("//"))
        .and_then(|rest| HeaderValue::try_from(rest).ok());
    if let Some(relative) = relative {
        headers.insert(LOCATION, relative);
    }
}

fn is_within(scope: &HeaderValue, folder: &str) -> bool {
    let scope = scope.to_str().unwrap_or_default();
    scope
        .strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
        && !scope.contains("..")
}

/// Sets on every answer what browsers need to be told, also on our own errors.
pub(crate) fn secure(headers: &mut HeaderMap, settings: &Settings, frame_ancestors: &str) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("same-origin"));
    headers
        .entry("cross-origin-resource-policy")
        .or_insert(HeaderValue::from_static("same-origin"));
    headers.insert("origin-agent-cluster", HeaderValue::from_static("?1"));
    headers.remove(X_FRAME_OPTIONS);
    if frame_ancestors == "'none'" {
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(
            "cross-origin-opener-policy",
            HeaderValue::from_static("same-origin"),
        );
    }
    // Several policies hold at once: this one only narrows what an upstream says.
    if let Ok(policy) = HeaderValue::try_from(format!("frame-ancestors {frame_ancestors}")) {
        headers.append(CONTENT_SECURITY_POLICY, policy);
    }
    if settings.is_secure() {
        headers.insert(
            STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=63072000; includeSubDomains; preload"),
        );
    }
}

/// Returns which origins may show a surface in a frame. All ancestors count, so whoever may
/// frame the editor may also frame what the editor frames.
pub(crate) fn frame_ancestors(
    settings: &Settings,
    surface: &Surface,
    editor_host: Option<&str>,
) -> String {
    let portal = settings.portal_origin();
    match (surface, editor_host) {
        (Surface::Portal, _) => "'none'".to_owned(),
        (Surface::SeatApps(_), Some(editor)) => {
            format!("'self' {} {portal}", settings.origin(editor))
        }
        // The editor's own webviews are frames of its own origin.
        (Surface::Instructions | Surface::SeatEditor(_) | Surface::SeatApps(_), _) => {
            format!("'self' {portal}")
        }
    }
}

/// Lines that `Connection` names go first, or a sender could have ours removed.
fn remove_connection_lines(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_A_CONNECTION) {
        headers.remove(name);
    }
}

fn remove_starting(headers: &mut HeaderMap, prefix: &str) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(prefix))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// A header is ASCII; a name need not be.
fn percent_encoded(text: &str) -> String {
    url_encoded(text, |byte| {
        byte.is_ascii_graphic() && byte != b'%' || byte == b' '
    })
}

/// Returns a text with all bytes percent-encoded that `stays` does not let through.
pub(crate) fn url_encoded(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_sender_cannot_have_our_lines_removed() {
        let mut lines = headers(&[
            ("connection", "x-arena-principal, close"),
            ("x-arena-principal", "facilitator:eve"),
        ]);
        clean_request(&mut lines);
        say(
            &mut lines,
            &Said {
                surface: "portal",
                principal: Some("participant:ada".into()),
                ..Said::default()
            },
        );
        assert_eq!(lines.get("x-arena-principal").unwrap(), "participant:ada");
        assert!(!lines.contains_key("connection"));
    }

    #[test]
    fn a_service_worker_stays_in_its_folder() {
        for (path, scope, stays) in [
            ("/app/sw.js", "/app/", true),
            ("/app/sw.js", "/app/x/", true),
            ("/app/sw.js", "/", false),
            ("/app/sw.js", "/application/", false),
            ("/app/sw.js", "/app/../", false),
            ("/sw.js", "/", true),
        ] {
            let mut lines = headers(&[("service-worker-allowed", scope)]);
            confine_seat(&mut lines, path, "ada.1.invalid");
            assert_eq!(
                lines.contains_key("service-worker-allowed"),
                stays,
                "{path} {scope}"
            );
        }
    }

    #[test]
    fn a_redirect_to_the_inner_name_becomes_relative() {
        let mut lines = headers(&[("location", "http://ada.1.invalid/backend/login")]);
        confine_seat(&mut lines, "/backend/", "ada.1.invalid");
        assert_eq!(lines.get("location").unwrap(), "/backend/login");
    }

    #[test]
    fn names_in_any_script_fit_into_a_header() {
        assert_eq!(percent_encoded("Zoë 100%"), "Zo%C3%AB 100%25");
    }
}
