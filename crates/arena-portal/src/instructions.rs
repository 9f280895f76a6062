//! The instructions' pages, for whoever has joined.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, StatusCode, Uri};

use crate::caller::Caller;
use crate::problem::{Code, Problem};
use crate::serve::App;

/// Any `GET` on the instructions' host outside `/_arena/`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if caller.principal.is_none() {
        return Err(Problem::new(Code::NotJoined));
    }
    let path = uri.path();
    let Some(page) = (app.settings.instructions)(path) else {
        let folder = format!("{path}/");
        if !path.ends_with('/') && (app.settings.instructions)(&folder).is_some() {
            return Ok((StatusCode::SEE_OTHER, [(LOCATION, folder)]).into_response());
        }
        return Err(Problem::new(Code::NotFound));
    };
    let kept = headers
        .get(IF_NONE_MATCH)
        .is_some_and(|tag| tag.as_bytes() == page.etag.as_bytes());
    // A page may be corrected while the event runs: browsers ask each time.
    let common = [
        (ETAG, page.etag),
        (CACHE_CONTROL, "private, no-cache".to_owned()),
    ];
    if kept {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    Ok((common, [(CONTENT_TYPE, page.content_type)], page.body).into_response())
}
