//! Pages for people, rendered from templates. Every page works without
//! scripts, except that it does not update itself.

mod admin;
mod connection;
mod device;
mod facilitator;
mod join;
mod show;
mod waiting;

pub(crate) use join::{check_code, take_free};

use std::sync::Arc;

use arena_store::{Actor, OrderKind, Principal};
use arena_workshop::SeatId;
use askama::Template;
use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderValue, Method, StatusCode};

use crate::caller::Caller;
use crate::guard;
use crate::problem::{Code, Problem};
use crate::serve::App;
use crate::texts::Texts;

/// What every page shows around its own part.
pub(crate) struct Frame {
    pub(crate) t: Texts,
    pub(crate) title: String,
    pub(crate) assets: String,
    /// Name of who is here; empty for nobody.
    pub(crate) who: String,
    pub(crate) has_seat: bool,
    pub(crate) is_facilitator: bool,
    pub(crate) csrf: String,
    /// The event from which the page's stream goes on.
    pub(crate) seen: i64,
}

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(join::landing))
        .route("/join", post(join::with_code))
        .route("/join/seat", post(join::take))
        .route("/join/{token}", get(join::link).post(join::start))
        .route("/leave", post(join::leave))
        .route("/waiting/{token}", get(waiting::show))
        .route("/waiting/{token}/place", get(waiting::place))
        .route("/check", get(connection::show))
        .route("/check/cookie", get(connection::cookie))
        .route("/check/echo", get(connection::echo))
        .route("/check/report", post(connection::report))
        .route("/seat", get(show::seat))
        .route("/seat/device", post(device::show))
        .route("/leaderboard", get(show::leaderboard))
        .route("/participants", get(show::participants))
        .route(
            "/facilitator/{token}",
            get(facilitator::link).post(facilitator::enter),
        )
        .route("/admin", get(admin::room))
        .route("/admin/board", post(admin::board))
        .route("/admin/waiting/{id}/{action}", post(admin::waiting))
        .route(
            "/admin/seats/{seat}/{action}",
            get(admin::confirm).post(admin::act),
        )
        .method_not_allowed_fallback(begin)
}

/// Leads who opens a form's address, from memory or from the browser's history, to where forms are.
async fn begin(method: Method) -> Response {
    if method == Method::GET {
        Redirect::to("/").into_response()
    } else {
        StatusCode::METHOD_NOT_ALLOWED.into_response()
    }
}

impl Frame {
    pub(crate) fn of(app: &App, caller: &Caller) -> Self {
        let store = &app.settings.store;
        let who = match &caller.principal {
            Some(Principal::Participant(seat)) => {
                store.seat(seat).map(|record| record.display_name)
            }
            Some(Principal::Facilitator(name)) => Some(name.clone()),
            Some(Principal::Visitor { .. }) | None => None,
        };
        Self {
            t: app.texts,
            title: app.settings.title.clone(),
            assets: app.assets.clone(),
            who: who.unwrap_or_default(),
            has_seat: caller.seat().is_some(),
            is_facilitator: caller.is_facilitator(),
            csrf: guard::token(store, &caller.session),
            seen: caller.seen,
        }
    }
}

/// Returns a page.
pub(crate) fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => ([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(error) => Problem::broken(&error).into_response(),
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: &'static str,
    text: &'static str,
    code: String,
}

/// Returns a refusal as a page.
pub(crate) fn problem(app: &App, caller: &Caller, problem: &Problem) -> Response {
    let code = problem.code.name();
    let template = ProblemPage {
        frame: Frame::of(app, caller),
        title: app.texts.get(&format!("problem.{code}.title")),
        text: app.texts.get(&format!("problem.{code}.text")),
        code,
    };
    let mut response = page(&template);
    *response.status_mut() = problem.code.status();
    if let Some(seconds) = problem.retry_after_seconds {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Sends the browser on to a path of this host.
pub(crate) fn go_to(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, path.to_owned())]).into_response()
}

/// Gives this browser a new session, ends its old one, and sends it on.
async fn let_in(
    app: &App,
    caller: &Caller,
    principal: Principal,
    path: &str,
) -> Result<Response, Problem> {
    let store = &app.settings.store;
    if !caller.session.is_empty() {
        store.end_session(&caller.session).await?;
    }
    let secret = store
        .create_session(principal, &app.settings.address.domain)
        .await?;
    let mut response = go_to(path);
    let cookie = HeaderValue::try_from(app.settings.session_cookie(secret.reveal()));
    response
        .headers_mut()
        .insert(SET_COOKIE, cookie.map_err(|error| Problem::broken(&error))?);
    Ok(response)
}

/// Asks for the seat's editor to wake, unless it is awake.
async fn wake(app: &App, seat: &SeatId) -> Result<(), Problem> {
    let store = &app.settings.store;
    let awake = store
        .seat(seat)
        .is_some_and(|record| record.status.editor == arena_store::EditorStatus::Ready);
    if !awake {
        store
            .place_order(
                OrderKind::WakeEditor { seat: seat.clone() },
                Actor::Participant(seat.clone()),
            )
            .await?;
    }
    Ok(())
}

/// Returns an error unless the form came back with its token.
fn check_token(app: &App, subject: &str, given: &str) -> Result<(), Problem> {
    if guard::holds(&app.settings.store, subject, given) {
        Ok(())
    } else {
        Err(Problem::new(Code::StaleForm))
    }
}
