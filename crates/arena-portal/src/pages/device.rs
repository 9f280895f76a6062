//! Another device: a code to type or scan there, once, within minutes.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, State};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use qrcode::QrCode;
use qrcode::render::svg;

use super::join::TokenForm;
use super::{Frame, check_token, page};
use crate::caller::{Caller, Participant};
use crate::problem::{Code, Problem};
use crate::serve::App;

/// Smallest side of the picture, in pixels.
const SIDE_MIN: u32 = 220;

#[derive(Template)]
#[template(path = "device.html")]
struct Device {
    frame: Frame,
    code: String,
    minutes: u64,
    host: String,
    /// A `data:` address.
    picture: String,
}

/// `POST /seat/device`: makes the code. Not a `GET`: each time ends the code before.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    participant: Participant,
    caller: Caller,
    Form(form): Form<TokenForm>,
) -> Result<Response, Problem> {
    check_token(&app, &caller.session, &form.csrf)?;
    let made = app.settings.store.create_device_code(&participant.seat)?;
    let (code, holds) = made.ok_or(Problem::new(Code::NotJoined))?;
    let origin = app.settings.portal_origin();
    Ok(page(&Device {
        frame: Frame::of(&app, &caller),
        picture: picture(&format!("{origin}/?code={code}"))?,
        host: origin,
        code,
        minutes: holds.as_secs() / 60,
    }))
}

fn picture(text: &str) -> Result<String, Problem> {
    let code = QrCode::new(text).map_err(|error| Problem::broken(&error))?;
    let svg = code
        .render::<svg::Color<'_>>()
        .min_dimensions(SIDE_MIN, SIDE_MIN)
        .build();
    Ok(format!(
        "data:image/svg+xml;base64,{}",
        BASE64_STANDARD.encode(svg)
    ))
}
