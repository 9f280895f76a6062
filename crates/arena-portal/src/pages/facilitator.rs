//! The one-time link that makes a facilitator: it asks for a name, then it is spent.

use std::sync::Arc;

use arena_store::{Actor, Principal};
use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::join::fit_name;
use super::{Frame, check_token, let_in, page};
use crate::caller::Caller;
use crate::guard;
use crate::problem::{Code, Problem};
use crate::serve::App;

#[derive(Template)]
#[template(path = "facilitator.html")]
struct Welcome {
    frame: Frame,
    token: String,
    form_token: String,
}

#[derive(Deserialize)]
pub(crate) struct NameForm {
    name: String,
    csrf: String,
}

/// `GET /facilitator/{token}`
pub(crate) async fn link(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(token): Path<String>,
) -> Result<Response, Problem> {
    if !app.settings.store.facilitator_link_waits(&token) {
        return Err(Problem::new(Code::FacilitatorLinkInvalid));
    }
    let form_token = guard::token(&app.settings.store, &format!("facilitator|{token}"));
    Ok(page(&Welcome {
        frame: Frame::of(&app, &caller),
        token,
        form_token,
    }))
}

/// `POST /facilitator/{token}`
pub(crate) async fn enter(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(token): Path<String>,
    Form(form): Form<NameForm>,
) -> Result<Response, Problem> {
    check_token(&app, &format!("facilitator|{token}"), &form.csrf)?;
    let name = fit_name(&form.name).ok_or(Problem::new(Code::NameUnfit))?;
    let store = &app.settings.store;
    if !store.redeem_facilitator_link(&token).await? {
        return Err(Problem::new(Code::FacilitatorLinkInvalid));
    }
    store
        .audit(Actor::Facilitator(name.clone()), "enter", "room")
        .await?;
    let_in(&app, &caller, Principal::Facilitator(name), "/admin").await
}
