//! Coming in: the landing page, the event's code, personal links; and leaving.

use std::sync::Arc;
use std::time::Instant;

use arena_store::{Principal, SeatRecord, Seated};
use arena_workshop::SeatId;
use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;

use super::{Frame, check_token, go_to, let_in, page, wake};
use crate::caller::Caller;
use crate::guard;
use crate::problem::{Code, Problem};
use crate::serve::App;

/// Longest name and e-mail, in characters.
pub(crate) const NAME_MAX: usize = 80;
const EMAIL_MAX: usize = 254;

#[derive(Template)]
#[template(path = "landing.html")]
struct Landing {
    frame: Frame,
    exercises: usize,
    joined: usize,
    code: String,
    error: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "join.html")]
struct Join {
    frame: Frame,
    code: String,
    people: Vec<SeatRecord>,
    free: usize,
    error: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "link.html")]
struct Link {
    frame: Frame,
    name: String,
    token: String,
    form_token: String,
    taken: bool,
    /// Somebody else's session is in this browser.
    other: bool,
}

#[derive(Deserialize)]
pub(crate) struct CodeQuery {
    code: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct CodeForm {
    code: String,
}

#[derive(Deserialize)]
pub(crate) struct TakeForm {
    code: String,
    seat: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
}

#[derive(Deserialize)]
pub(crate) struct TokenForm {
    pub(super) csrf: String,
}

/// `GET /`
pub(crate) async fn landing(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<CodeQuery>,
) -> Response {
    show_landing(&app, &caller, query.code.unwrap_or_default(), None)
}

fn show_landing(app: &App, caller: &Caller, code: String, error: Option<Code>) -> Response {
    let board = app.board.borrow().clone();
    let mut response = page(&Landing {
        frame: Frame::of(app, caller),
        exercises: app.settings.solvable().count(),
        joined: board.joined,
        code: code.chars().take(20).collect(),
        error: error.map(|code| app.texts.get(&format!("problem.{}.text", code.name()))),
    });
    if let Some(code) = error {
        *response.status_mut() = code.status();
        if code == Code::TooManyTries {
            response
                .headers_mut()
                .insert(http::header::RETRY_AFTER, HeaderValue::from(1_u64));
        }
    }
    response
}

/// `POST /join`: the event's code, or the code that a seat page shows for another device.
pub(crate) async fn with_code(
    State(app): State<Arc<App>>,
    caller: Caller,
    Form(form): Form<CodeForm>,
) -> Result<Response, Problem> {
    match recognise(&app, &caller, &form.code).await {
        Ok(Typed::Event) => Ok(show_join(&app, &caller, None)),
        Ok(Typed::Device(seat)) => enter(&app, &caller, seat).await,
        Err(problem) if problem.code == Code::Broken => Err(problem),
        Err(problem) => Ok(show_landing(&app, &caller, form.code, Some(problem.code))),
    }
}

fn show_join(app: &App, caller: &Caller, error: Option<Code>) -> Response {
    let store = &app.settings.store;
    let open: Vec<_> = store
        .seats()
        .into_iter()
        .filter(|seat| seat.taken.is_none() && !seat.decommissioned)
        .collect();
    let (mut people, free): (Vec<_>, Vec<_>) = open.into_iter().partition(|seat| seat.listed);
    people.sort_by_key(|seat| seat.display_name.to_lowercase());
    let mut response = page(&Join {
        frame: Frame::of(app, caller),
        code: store.event_code(),
        people,
        free: free.len(),
        error: error.map(|code| app.texts.get(&format!("problem.{}.text", code.name()))),
    });
    if let Some(code) = error {
        *response.status_mut() = code.status();
    }
    response
}

/// `POST /join/seat`: a name of the list, or a name and an e-mail for a free seat.
pub(crate) async fn take(
    State(app): State<Arc<App>>,
    caller: Caller,
    Form(form): Form<TakeForm>,
) -> Result<Response, Problem> {
    if let Err(problem) = check_code(&app, &caller, &form.code) {
        return Ok(show_landing(&app, &caller, form.code, Some(problem.code)));
    }
    let taken = match &form.seat {
        Some(seat) => take_listed(&app, seat).await,
        None => match take_or_wait(&app, &form.name, &form.email).await {
            Ok(Seated::Waits(token)) => return Ok(go_to(&format!("/waiting/{token}"))),
            Ok(Seated::Seat(record)) => Ok(*record),
            Err(problem) => Err(problem),
        },
    };
    match taken {
        Ok(record) => enter(&app, &caller, record.seat).await,
        Err(problem) if problem.code == Code::Broken => Err(problem),
        Err(problem) => Ok(show_join(&app, &caller, Some(problem.code))),
    }
}

async fn take_listed(app: &App, seat: &str) -> Result<SeatRecord, Problem> {
    let seat = SeatId::new(seat).map_err(|_| Problem::new(Code::SeatUnknown))?;
    Ok(app.settings.store.take_listed(&seat).await?)
}

/// Takes a free seat for a name and an e-mail that are fit to be shown.
pub(crate) async fn take_free(app: &App, name: &str, email: &str) -> Result<SeatRecord, Problem> {
    let (name, email) = fit_person(name, email)?;
    Ok(app.settings.store.take_free(&name, &email).await?)
}

/// The same for somebody who would rather wait than go.
async fn take_or_wait(app: &App, name: &str, email: &str) -> Result<Seated, Problem> {
    let (name, email) = fit_person(name, email)?;
    Ok(app.settings.store.take_free_or_wait(&name, &email).await?)
}

fn fit_person(name: &str, email: &str) -> Result<(String, String), Problem> {
    let name = fit_name(name).ok_or(Problem::new(Code::NameUnfit))?;
    let email = email.trim();
    let parts = email
        .split_once('@')
        .filter(|(local, host)| !local.is_empty() && !host.is_empty());
    if parts.is_none() || email.chars().count() > EMAIL_MAX || email.chars().any(char::is_control) {
        return Err(Problem::new(Code::MissingFields));
    }
    Ok((name, email.to_owned()))
}

/// Returns a name that can be shown: trimmed, white space made one space, without control and
/// direction characters, not longer than [`NAME_MAX`]; `None` when nothing is left or too much.
pub(crate) fn fit_name(name: &str) -> Option<String> {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let words: Vec<String> = name
        .split_whitespace()
        .map(|word| {
            word.chars()
                .filter(|c| !c.is_control() && !turns(*c))
                .collect()
        })
        .filter(|word: &String| !word.is_empty())
        .collect();
    let name = words.join(" ");
    (!name.is_empty() && name.chars().count() <= NAME_MAX).then_some(name)
}

/// What somebody typed.
enum Typed {
    /// The event's code.
    Event,
    /// A code for another device of who sits in that seat.
    Device(SeatId),
}

/// Returns what a code is for; wrong ones are counted by address.
async fn recognise(app: &App, caller: &Caller, code: &str) -> Result<Typed, Problem> {
    may_guess(app, caller)?;
    let typed = plain(code);
    if app.settings.joins_by_code && typed == app.settings.store.event_code() {
        return Ok(Typed::Event);
    }
    if let Some(seat) = app.settings.store.redeem_device_code(&typed).await? {
        return Ok(Typed::Device(seat));
    }
    app.guesses.count(&caller.address, Instant::now());
    Err(Problem::new(Code::Mistyped))
}

/// Returns an error unless the text is the event's code; wrong ones are counted by address.
pub(crate) fn check_code(app: &App, caller: &Caller, code: &str) -> Result<(), Problem> {
    may_guess(app, caller)?;
    if app.settings.joins_by_code && plain(code) == app.settings.store.event_code() {
        return Ok(());
    }
    app.guesses.count(&caller.address, Instant::now());
    Err(Problem::new(Code::Mistyped))
}

/// Returns a code as it was made, however it was typed.
fn plain(code: &str) -> String {
    code.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_uppercase)
        .collect()
}

fn may_guess(app: &App, caller: &Caller) -> Result<(), Problem> {
    let now = Instant::now();
    if let Some(wait) = app.guesses.wait(&caller.address, now) {
        let retry_after_seconds = Some(wait.as_secs().max(1));
        return Err(Problem {
            code: Code::TooManyTries,
            retry_after_seconds,
        });
    }
    Ok(())
}

/// `GET /join/{token}`: a personal link. Nothing is taken before the button is pressed, so that a
/// chat's preview of the link takes nothing.
pub(crate) async fn link(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let record = linked(&app, &token)?;
    if caller.seat() == Some(&record.seat) {
        return Ok(go_to("/seat"));
    }
    // The editor wakes while the name is shown, when a browser shows it.
    if headers
        .get("sec-fetch-dest")
        .is_some_and(|dest| dest == "document")
    {
        wake(&app, &record.seat).await?;
    }
    Ok(page(&Link {
        frame: Frame::of(&app, &caller),
        name: record.display_name,
        form_token: guard::token(&app.settings.store, &format!("link|{token}")),
        token,
        taken: record.taken.is_some(),
        other: caller.principal.is_some(),
    }))
}

/// `POST /join/{token}`: the button of a personal link. Whoever has the link has the seat.
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(token): Path<String>,
    Form(form): Form<TokenForm>,
) -> Result<Response, Problem> {
    let record = linked(&app, &token)?;
    check_token(&app, &format!("link|{token}"), &form.csrf)?;
    if record.taken.is_none() {
        match app.settings.store.take_listed(&record.seat).await {
            // Two clicks at once: the link is proof enough.
            Ok(_) | Err(arena_store::TakeError::Taken) => {}
            Err(error) => return Err(error.into()),
        }
    }
    enter(&app, &caller, record.seat).await
}

/// Returns the seat of a personal link. A free seat has none until somebody sits there.
fn linked(app: &App, token: &str) -> Result<SeatRecord, Problem> {
    let store = &app.settings.store;
    store
        .seat_for_link(token)
        .and_then(|seat| store.seat(&seat))
        .filter(|record| record.listed || record.taken.is_some())
        .ok_or(Problem::new(Code::LinkInvalid))
}

async fn enter(app: &App, caller: &Caller, seat: SeatId) -> Result<Response, Problem> {
    // At once, so that they share a commit: that is what a seat waits for when a whole room comes.
    let person = Principal::Participant(seat.clone());
    let ((), response) = tokio::try_join!(wake(app, &seat), let_in(app, caller, person, "/seat"))?;
    Ok(response)
}

/// `POST /leave`: ends the session; the seat stays taken.
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    caller: Caller,
    Form(form): Form<TokenForm>,
) -> Result<Response, Problem> {
    check_token(&app, &caller.session, &form.csrf)?;
    app.settings.store.end_session(&caller.session).await?;
    let mut response = go_to("/");
    let cookie = HeaderValue::try_from(app.settings.session_cookie(""))
        .map_err(|error| Problem::broken(&error))?;
    response
        .headers_mut()
        .insert(http::header::SET_COOKIE, cookie);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_fit_to_be_shown() {
        assert_eq!(
            fit_name("  Ada \n Lovelace\t").as_deref(),
            Some("Ada Lovelace")
        );
        assert_eq!(fit_name("Ada\u{202e}ecila").as_deref(), Some("Adaecila"));
        assert_eq!(
            fit_name("<b>Zoë</b>").as_deref(),
            Some("<b>Zoë</b>"),
            "the page escapes, the name stays"
        );
        for bad in ["", " \u{200f} \u{7}", &"x".repeat(10_000)] {
            assert_eq!(fit_name(bad), None);
        }
    }
}
