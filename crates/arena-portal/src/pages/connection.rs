//! The connection test: can this browser, on this network, use an editor here?
//! It asks what an editor needs: WebSockets through the gateway, cookies, the
//! event's other hosts, the clipboard. It works for anybody, days before.

use std::sync::Arc;
use std::time::Instant;

use arena_store::ConnectionReport;
use askama::Template;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_SECURITY_POLICY, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::join::fit_name;
use super::{Frame, page};
use crate::caller::Caller;
use crate::echo;
use crate::problem::{Code, Problem};
use crate::serve::{App, policy};

/// A cookie that says nothing, for a minute. Not named like the platform's own: those stay with the gateway.
const PROBE: &str = "probe_arena=1";
/// The slowest answer that is believed.
const LATENCY_MS_MAX: u32 = 600_000;
/// Host names that a seat's would look like; no seat is called so.
const SEAT_LIKE: &str = "connection-test";

#[derive(Template)]
#[template(path = "check.html")]
struct Check {
    frame: Frame,
    instructions: String,
    editor: String,
    app: String,
    /// What is tried: its name, and for people its title and what to do where it fails.
    steps: [(&'static str, &'static str, &'static str); 5],
}

/// What the page found out.
#[derive(Deserialize)]
pub(crate) struct Found {
    #[serde(default)]
    name: String,
    websocket: bool,
    cookies: bool,
    clipboard: bool,
    #[serde(default)]
    blocked: Vec<String>,
    latency_ms: Option<u32>,
}

/// `GET /check`
pub(crate) async fn show(State(app): State<Arc<App>>, caller: Caller) -> Response {
    let settings = &app.settings;
    let seat_like =
        |suffix: &str| settings.origin(&format!("{SEAT_LIKE}{suffix}.{}", settings.address.domain));
    let (instructions, editor, seat) = (
        settings.instructions_origin(),
        seat_like("--code"),
        seat_like(""),
    );
    let also = format!("{instructions} {editor} {seat}");
    let mut response = page(&Check {
        frame: Frame::of(&app, &caller),
        instructions,
        editor,
        app: seat,
        steps: ["websocket", "cookies", "hosts", "clipboard", "latency"].map(|step| {
            let text = |key: String| app.texts.get(&key);
            (
                step,
                text(format!("check.{step}")),
                text(format!("check.{step}_help")),
            )
        }),
    });
    if let Ok(policy) = HeaderValue::try_from(policy(&app, &caller, &also)) {
        response
            .headers_mut()
            .insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// `GET /check/cookie`: sets a cookie, and says whether it came back.
pub(crate) async fn cookie(headers: HeaderMap) -> Response {
    let kept = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .any(|line| line.split("; ").any(|pair| pair == PROBE));
    let cookie = format!("{PROBE}; Path=/check; HttpOnly; SameSite=Lax; Max-Age=60");
    ([(SET_COOKIE, cookie)], Json(json!({ "kept": kept }))).into_response()
}

/// `GET /check/echo`: a WebSocket that says back what it is told.
pub(crate) async fn echo(State(app): State<Arc<App>>, request: Request) -> Response {
    match echo::accept(request) {
        Some((response, echoing)) => {
            let ending = app.shutdown.clone();
            // Dropping it halfway cuts the WebSocket, which is what a shutdown means.
            app.tasks.spawn(async move {
                tokio::select! { () = echoing => {}, () = ending.cancelled() => {} }
            });
            response
        }
        None => Problem::new(Code::Malformed).into_response(),
    }
}

/// `POST /check/report`: keeps what was found out, for the facilitators.
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(found): Json<Found>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let now = Instant::now();
    if let Some(wait) = app.reports.wait(&caller.address, now) {
        return Err(Problem {
            code: Code::TooManyTries,
            retry_after_seconds: Some(wait.as_secs().max(1)),
        });
    }
    app.reports.count(&caller.address, now);
    let store = &app.settings.store;
    let seat = caller.seat().and_then(|seat| store.seat(seat));
    let given = fit_name(&found.name);
    let name = seat
        .as_ref()
        .map(|record| record.display_name.clone())
        .or(given)
        .ok_or(Problem::new(Code::NameUnfit))?;
    let known = ["instructions", "editor", "app"];
    let report = ConnectionReport {
        websocket: found.websocket,
        cookies: found.cookies,
        clipboard: found.clipboard,
        blocked: known
            .into_iter()
            .filter(|host| found.blocked.iter().any(|blocked| blocked == host))
            .map(str::to_owned)
            .collect(),
        latency_ms: found.latency_ms.map(|ms| ms.min(LATENCY_MS_MAX)),
    };
    let good = report.is_good();
    let seat = seat.map(|record| record.seat);
    store
        .record_connection_test(seat.as_ref(), &name, report)
        .await?;
    Ok((StatusCode::CREATED, Json(json!({ "good": good }))))
}
