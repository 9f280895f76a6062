//! Who is asking: sessions, who may enter which host, and the hand-over that
//! carries a session from the portal to another host.
//!
//! A hand-over starts at the host that wants it ([`begin`]): a nonce goes into a
//! cookie there, its hash to the portal ([`vouch`]), which answers with a code for
//! this host, this person and this nonce; the host takes it once ([`enter`]) and
//! goes on to a relative path. A code that leaks is of no use without the cookie,
//! a cookie of none without the code.

use arena_store::{Principal, Session};
use arena_workshop::plan::Surface;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::body::{self, Body};
use crate::cookies::{self, CookieNames};
use crate::headers::url_encoded;
use crate::look_in::Place;
use crate::refusal::Refusal;
use crate::{Routes, Settings};

/// Answered by the portal's host.
pub(crate) const VOUCH_PATH: &str = "/_arena/handover";
/// Answered by every other host.
pub(crate) const ENTER_PATH: &str = "/_arena/enter";

/// Time for a hand-over's redirects; its code lives shorter still.
const NONCE_SECONDS: u32 = 60;
/// How long someone without a session reads on before the portal is asked again.
const NOBODY_SECONDS: u32 = 60;
/// Hand-overs of one browser and host at once; more of them go round in a circle.
const ENTERING_MAX: usize = 8;

/// Returns the session that a request's cookies name on this host. A page of a seat can add
/// cookies to a request for another host: two different sessions are none.
pub(crate) fn find(
    settings: &Settings,
    names: &CookieNames,
    headers: &HeaderMap,
    host: &str,
) -> Option<Session> {
    let mut found: Option<Session> = None;
    for secret in cookies::values(headers, &names.session) {
        match (settings.store.session(secret, host), &found) {
            (Some(session), None) => found = Some(session),
            (Some(session), Some(other)) if session != *other => return None,
            _ => {}
        }
    }
    found
}

/// Returns whether a person may be on a host.
pub(crate) fn may_enter(principal: &Principal, surface: &Surface) -> bool {
    match (surface, principal) {
        (Surface::Portal, _) => true,
        // Authors' scripts run there: never with a facilitator's rights.
        (Surface::Instructions, Principal::Participant(_)) => true,
        (Surface::SeatApps(seat) | Surface::SeatEditor(seat), Principal::Participant(own)) => {
            seat == own
        }
        // Visitors have hosts of their own (`look_in.rs`).
        (_, Principal::Facilitator(_) | Principal::Visitor { .. }) => false,
    }
}

/// Starts a hand-over to this host.
///
/// # Errors
/// When this browser goes round in a circle, or the machine has no randomness.
pub(crate) fn begin(
    settings: &Settings,
    names: &CookieNames,
    headers: &HeaderMap,
    host: &str,
    path: &str,
) -> Result<Response<Body>, Refusal> {
    if cookies::names(headers)
        .filter(|name| name.starts_with(&names.entering))
        .count()
        >= ENTERING_MAX
    {
        return Err(Refusal::Circle);
    }
    let (id, nonce) = (random::<6>()?, random::<24>()?);
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(nonce.as_bytes()));
    let query = query(&[("host", host), ("id", &id), ("nonce", &hash), ("to", path)]);
    let cookie = names.set(
        &format!("{}{id}", names.entering),
        &nonce,
        Some(NONCE_SECONDS),
    );
    redirect(
        &format!("{}{VOUCH_PATH}?{query}", settings.portal_origin()),
        cookie,
    )
}

/// Vouches for a person towards another host; answered on the portal's host.
///
/// # Errors
/// When the query makes no sense, nobody is logged in, or the person may not be there.
pub(crate) fn vouch(
    settings: &Settings,
    routes: &Routes,
    session: Option<&Session>,
    query_text: &str,
) -> Result<Response<Body>, Refusal> {
    let asked = |name| value(query_text, name).ok_or(Refusal::Malformed("an incomplete hand-over"));
    let (host, id, to) = (asked("host")?, asked("id")?, asked("to")?);
    let hash = URL_SAFE_NO_PAD
        .decode(asked("nonce")?)
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let hash = hash.ok_or(Refusal::Malformed("an incomplete hand-over"))?;
    let place = Place::of(settings, routes, &host)
        .filter(|place| place.target.surface != Surface::Portal)
        .ok_or(Refusal::Malformed("a hand-over to an unknown host"))?;
    let code = match session.and_then(|session| place.vouches_for(session)) {
        Some(principal) => settings
            .store
            .create_handover(&host, principal, hash)
            .map_err(|error| Refusal::broken("cannot make a hand-over", &error))?,
        None if place.target.surface == Surface::Instructions => String::new(),
        None if session.is_some() => return Err(Refusal::NotYours),
        None => return Err(Refusal::NobodyKnown),
    };
    let query = query(&[("code", &code), ("id", &id), ("to", &to)]);
    redirect(
        &format!("{}{ENTER_PATH}?{query}", settings.origin(&host)),
        None,
    )
}

/// Lets a person in whom the portal vouched for.
///
/// # Errors
/// When code and cookie do not belong together, or were used before.
pub(crate) async fn enter(
    settings: &Settings,
    names: &CookieNames,
    headers: &HeaderMap,
    host: (&str, &Place<'_>),
    query_text: &str,
) -> Result<Response<Body>, Refusal> {
    let (host, place) = host;
    let asked = |name| value(query_text, name).ok_or(Refusal::Malformed("an incomplete hand-over"));
    let (code, id, to) = (asked("code")?, asked("id")?, asked("to")?);
    let to = relative_path(&to).ok_or(Refusal::Malformed("a hand-over that leads elsewhere"))?;
    if !id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    {
        return Err(Refusal::Malformed("an incomplete hand-over"));
    }
    let used = names.set(&format!("{}{id}", names.entering), "", Some(0));
    if code.is_empty() && place.target.surface == Surface::Instructions {
        let mut response = redirect(to, used)?;
        response.headers_mut().extend(
            names
                .set(&names.nobody, "1", Some(NOBODY_SECONDS))
                .map(|set| (SET_COOKIE, set)),
        );
        return Ok(response);
    }
    let nonces = cookies::values(headers, &format!("{}{id}", names.entering));
    let [nonce] = nonces[..] else {
        return Err(Refusal::StaleHandover);
    };
    let principal = settings
        .store
        .redeem_handover(&code, host, nonce.as_bytes())
        .filter(|principal| place.lets_in(principal))
        .ok_or(Refusal::StaleHandover)?;
    if let Some(visit) = &place.visit
        && !settings.store.enter_visit(visit, host)
    {
        return Err(Refusal::StaleHandover);
    }
    let secret = settings
        .store
        .create_session(principal, host)
        .await
        .map_err(|error| Refusal::broken("cannot make a session", &error))?;
    let mut response = redirect(to, used)?;
    response.headers_mut().extend(
        names
            .set(&names.session, secret.reveal(), None)
            .map(|set| (SET_COOKIE, set)),
    );
    Ok(response)
}

/// Returns the path if it can only lead to the same host.
fn relative_path(path: &str) -> Option<&str> {
    let local = path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/_arena/");
    let plain = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (local && plain).then_some(path)
}

fn redirect(to: &str, cookie: Option<HeaderValue>) -> Result<Response<Body>, Refusal> {
    let to = HeaderValue::try_from(to)
        .map_err(|_| Refusal::Malformed("a path that fits into no header"))?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, to);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    Ok(response)
}

fn random<const BYTES: usize>() -> Result<String, Refusal> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Refusal::broken("cannot get random bytes", &error))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn query(pairs: &[(&str, &str)]) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", url_encoded(value, stays)))
        .collect();
    pairs.join("&")
}

/// Returns a value of a query that names it exactly once.
fn value(query: &str, name: &str) -> Option<String> {
    let mut found = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| *key == name);
    let (Some((_, value)), None) = (found.next(), found.next()) else {
        return None;
    };
    decoded(value)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = std::str::from_utf8(tail.get(..2)?)
            .ok()
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_over_leads_to_a_relative_path_only() {
        for path in ["/", "/app/?folder=/home%20x#a", "/_arenas"] {
            assert_eq!(relative_path(path), Some(path));
        }
        for path in [
            "",
            "x",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil",
            "http://evil",
            "/_arena/enter?to=x",
            "/a b",
        ] {
            assert_eq!(relative_path(path), None, "{path}");
        }
    }

    #[test]
    fn queries_survive_the_way_there() {
        let path = "/?folder=/home/a b&x=%41+é";
        assert_eq!(
            value(&query(&[("code", ""), ("to", path)]), "to").as_deref(),
            Some(path)
        );
        assert_eq!(value("to=%4", "to"), None);
        assert_eq!(value("to=a&to=b", "to"), None);
    }
}
