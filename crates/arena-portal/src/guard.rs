//! Against forged requests: where an unsafe request comes from, and the tokens in forms.

use arena_store::Store;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::header::ORIGIN;
use http::{HeaderMap, Method};
use sha2::Sha256;

/// Returns whether a request may change something: a browser must say that it comes from the
/// page's own origin. What says nothing is no browser, and has no cookies that it was not given.
pub(crate) fn may_change(method: &Method, headers: &HeaderMap, own_origins: &[String]) -> bool {
    if matches!(*method, Method::GET | Method::HEAD) {
        return true;
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => own_origins.iter().any(|own| own == origin),
        (None, None) => true,
    }
}

/// Returns the token for a form that `subject` gets: a session, or a personal link.
pub(crate) fn token(store: &Store, subject: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&store.event_secret())
        .expect("HMAC takes keys of any length");
    mac.update(b"csrf|");
    mac.update(subject.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..16])
}

/// Returns whether a form came back with its token.
pub(crate) fn holds(store: &Store, subject: &str, given: &str) -> bool {
    let wanted = token(store, subject);
    let differs = wanted
        .bytes()
        .zip(given.bytes())
        .fold(0, |differs, (a, b)| differs | (a ^ b));
    !subject.is_empty() && wanted.len() == given.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pages_own_origin_may_change_something() {
        let own = ["http://arena.localhost:8080".to_owned()];
        for (name, value, may) in [
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            ("origin", "http://arena.localhost:8080", true),
            ("origin", "http://ada.arena.localhost:8080", false),
            ("origin", "null", false),
            ("accept", "*/*", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(
                may_change(&Method::POST, &headers, &own),
                may,
                "{name}: {value}"
            );
            assert!(may_change(&Method::GET, &headers, &own));
        }
    }
}
