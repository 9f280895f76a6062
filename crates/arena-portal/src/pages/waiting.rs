//! The waiting list, for who is on it: a page that says the place in line and
//! goes on to the seat by itself.

use std::sync::Arc;

use arena_store::Standing;
use askama::Template;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{Frame, go_to, page};
use crate::caller::Caller;
use crate::problem::{Code, Problem};
use crate::serve::App;

#[derive(Template)]
#[template(path = "waiting.html")]
struct Waiting {
    frame: Frame,
    name: String,
    place: usize,
    token: String,
}

/// `GET /waiting/{token}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(token): Path<String>,
) -> Result<Response, Problem> {
    match standing(&app, &token)? {
        Standing::Has(seat) => {
            let link = app.settings.store.link_token(&seat).unwrap_or_default();
            Ok(go_to(&format!("/join/{link}")))
        }
        Standing::Waits { name, place } => Ok(page(&Waiting {
            frame: Frame::of(&app, &caller),
            name,
            place,
            token,
        })),
    }
}

/// `GET /waiting/{token}/place`: the place in line, `null` when there is a seat.
pub(crate) async fn place(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
) -> Result<Json<Value>, Problem> {
    let place = match standing(&app, &token)? {
        Standing::Waits { place, .. } => Some(place),
        Standing::Has(_) => None,
    };
    Ok(Json(json!({ "place": place })))
}

fn standing(app: &App, token: &str) -> Result<Standing, Problem> {
    let standing = app.settings.store.standing(token);
    standing.ok_or(Problem::new(Code::LinkInvalid))
}
