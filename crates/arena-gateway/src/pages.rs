//! The gateway's own answers: a small page where a person looks, problem
//! details (RFC 9457) with a stable `code` where a program asked.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::{self, Body};
use crate::refusal::Refusal;

/// Cookies that are cleared at once; the rest goes with the next try.
const CLEARED_MAX: usize = 100;

const STYLE: &str = "body{font:17px/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto 0;padding:0 1.25rem;\
color-scheme:light dark;color:light-dark(#1c2a28,#e6efed);background:light-dark(#fff,#14201e)}\
h1{font-size:1.5rem;line-height:1.2}a{color:light-dark(#00684a,#71d6b0)}";

/// Returns the answer to a request that does not go on.
pub(crate) fn refused(refusal: &Refusal, is_seen: bool, portal_origin: &str) -> Response<Body> {
    let mut response = if is_seen {
        page(refusal, portal_origin)
    } else {
        problem(refusal)
    };
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    match refusal {
        Refusal::Method => {
            headers.insert(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        Refusal::Cookies(names) => clear(headers, names),
        _ => {}
    }
    response
}

/// Returns the answer to a health check.
pub(crate) fn healthy() -> Response<Body> {
    let mut response = Response::new(body::full("ok\n"));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // It says nothing, and the connection test asks all hosts from the portal's page.
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-site"),
    );
    response
}

/// Returns a redirect that keeps method and body.
pub(crate) fn moved(to: &str) -> Result<Response<Body>, Refusal> {
    let to = HeaderValue::try_from(to)
        .map_err(|_| Refusal::Malformed("a path that fits into no header"))?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(http::header::LOCATION, to);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn page(refusal: &Refusal, portal_origin: &str) -> Response<Body> {
    let (heading, text) = refusal.words();
    // A waiting page asks again at once: the gateway holds the request, and the page stays
    // on the screen until there is an answer.
    let again = match refusal {
        Refusal::Waking { .. } => "<meta http-equiv=\"refresh\" content=\"0\">",
        Refusal::EditorDown => "<meta http-equiv=\"refresh\" content=\"1\">",
        Refusal::Crowded | Refusal::SeatDown | Refusal::PortalDown | Refusal::AppDown(_) => {
            "<meta http-equiv=\"refresh\" content=\"5\">"
        }
        // The same for something that is tried again every minute.
        Refusal::WakeFailed(_) => "<meta http-equiv=\"refresh\" content=\"60\">",
        _ => "",
    };
    let (text, portal) = (escaped(&text), escaped(portal_origin));
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\">{again}<title>{heading}</title><style>{STYLE}</style>\
<main role=\"status\"><h1>{heading}</h1><p>{text}</p>\
<p><a href=\"{portal}/\" target=\"_top\">To the event's page</a></p></main></html>\n"
    );
    let mut response = Response::new(body::full(html));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
        ),
    );
    response
}

fn problem(refusal: &Refusal) -> Response<Body> {
    let (title, detail) = refusal.words();
    let status = refusal.status().as_u16();
    let problem = serde_json::json!({ "status": status, "code": refusal.code(), "title": title, "detail": detail });
    let mut response = Response::new(body::full(format!("{problem}\n")));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response
}

/// `Clear-Site-Data` where the browser knows it, and each name by itself where it does not.
fn clear(headers: &mut HeaderMap, names: &[String]) {
    headers.insert("clear-site-data", HeaderValue::from_static("\"cookies\""));
    for name in names.iter().take(CLEARED_MAX) {
        if let Ok(cookie) = HeaderValue::try_from(format!("{name}=; Path=/; Max-Age=0")) {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
