//! The platform's cookies: their names, how they are set, and how they are kept
//! away from seats in both directions.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::Settings;

/// Every platform cookie of every event begins like this, after `__Host-` if any. Cookies
/// of another event on this machine come along too: ports do not separate them.
const FAMILY: &str = "arena_";
const HOST_PREFIX: &str = "__host-";

/// Values of one name that are looked at; a page of a seat can add its own to a request.
const VALUES_MAX: usize = 8;

/// Names of the cookies that the gateway sets and reads.
#[derive(Debug, Clone)]
pub(crate) struct CookieNames {
    /// Holds a session's secret.
    pub(crate) session: String,
    /// Before a hand-over's own id: holds its nonce.
    pub(crate) entering: String,
    /// Says that this browser read the instructions as nobody a moment ago.
    pub(crate) nobody: String,
    secure: &'static str,
}

impl CookieNames {
    /// Returns the names for an event.
    pub(crate) fn new(settings: &Settings) -> Self {
        let (prefix, secure) = if settings.is_secure() {
            ("__Host-", "; Secure")
        } else {
            ("", "")
        };
        let session = format!("{prefix}{FAMILY}{}", settings.event);
        Self {
            entering: format!("{session}.enter."),
            nobody: format!("{session}.nobody"),
            session,
            secure,
        }
    }

    /// Returns a cookie that lasts as long as the browser's memory, or some seconds.
    pub(crate) fn set(&self, name: &str, value: &str, seconds: Option<u32>) -> Option<HeaderValue> {
        let age = seconds.map_or(String::new(), |seconds| format!("; Max-Age={seconds}"));
        let secure = self.secure;
        HeaderValue::try_from(format!(
            "{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}"
        ))
        .ok()
    }
}

/// Returns the values of a cookie in the order they came, a few at most.
pub(crate) fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    pairs(headers)
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| value)
        .take(VALUES_MAX)
        .collect()
}

/// Returns the names of all cookies that came.
pub(crate) fn names(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    pairs(headers).map(|(name, _)| name)
}

/// Returns the size of all cookies that came.
pub(crate) fn size_bytes(headers: &HeaderMap) -> usize {
    headers.get_all(COOKIE).iter().map(HeaderValue::len).sum()
}

/// Removes the platform's cookies from a request; the others stay as they were.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let kept: Vec<&[u8]> = line
            .as_bytes()
            .split(|byte| *byte == b';')
            .map(<[u8]>::trim_ascii)
            .filter(|pair| !pair.is_empty() && !is_ours(name_of(pair)))
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
            && !kept.is_empty()
        {
            headers.append(COOKIE, value);
        }
    }
}

/// Keeps of an upstream's cookies only those for its own host and with names of its own.
pub(crate) fn keep_own(headers: &mut HeaderMap) {
    let kept: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|value| stays_on_its_host(value.as_bytes()))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for value in kept {
        headers.append(SET_COOKIE, value);
    }
}

fn stays_on_its_host(cookie: &[u8]) -> bool {
    let mut parts = cookie.split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    // A pair without `=` is a cookie without a name: its value could look like one of ours.
    let named = pair.contains(&b'=') && !name_of(pair).is_empty();
    named
        && !is_ours(name_of(pair))
        && !parts.any(|part| name_of(part).eq_ignore_ascii_case(b"domain"))
}

fn name_of(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default()
        .trim_ascii()
}

fn is_ours(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    name.strip_prefix(HOST_PREFIX)
        .unwrap_or(&name)
        .starts_with(FAMILY)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_platforms_cookies_are_stripped() {
        let mut headers = HeaderMap::new();
        headers.append(
            COOKIE,
            "theme=dark; arena_harbour=secret; lang=en".parse().unwrap(),
        );
        headers.append(
            COOKIE,
            "__Host-arena_harbour.enter.1=x; ARENA_other=y"
                .parse()
                .unwrap(),
        );
        strip(&mut headers);
        assert_eq!(
            headers.get_all(COOKIE).iter().collect::<Vec<_>>(),
            ["theme=dark; lang=en"]
        );
    }

    #[test]
    fn a_seat_sets_no_cookie_of_ours_or_for_others() {
        for (cookie, stays) in [
            ("theme=dark; Path=/app", true),
            ("sid=1; HttpOnly; SameSite=Strict", true),
            ("theme=dark; Domain=arena.localhost", false),
            ("theme=dark; domain =.arena.localhost", false),
            ("theme=dark;DOMAIN", false),
            ("arena_harbour=stolen", false),
            (" __Host-arena_harbour=stolen; Path=/", false),
            ("=arena_harbour=stolen", false),
            ("arena_harbour", false),
        ] {
            assert_eq!(stays_on_its_host(cookie.as_bytes()), stays, "{cookie}");
        }
    }
}
