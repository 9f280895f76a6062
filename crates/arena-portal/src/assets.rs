//! Style and scripts, compiled in.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::problem::{Code, Problem};

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Names with their kind and text. Addresses carry [`version`], so browsers may keep them.
const FILES: &[(&str, &str, &str)] = &[
    ("arena.css", CSS, include_str!("../assets/arena.css")),
    ("theme.js", JS, include_str!("../assets/theme.js")),
    ("live.js", JS, include_str!("../assets/live.js")),
    ("seat.js", JS, include_str!("../assets/seat.js")),
    ("board.js", JS, include_str!("../assets/board.js")),
    ("room.js", JS, include_str!("../assets/room.js")),
    ("check.js", JS, include_str!("../assets/check.js")),
    ("waiting.js", JS, include_str!("../assets/waiting.js")),
    (
        "icon.svg",
        "image/svg+xml",
        include_str!("../assets/icon.svg"),
    ),
];

/// `GET /_assets/{version}/{name}`
pub(crate) async fn show(
    Path((_version, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, text) = found.ok_or(Problem::new(Code::NotFound))?;
    let headers = [
        (CONTENT_TYPE, *kind),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, *text).into_response())
}

/// Returns what addresses of style and scripts carry: it changes when one of them does.
pub(crate) fn version() -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for (name, _, text) in FILES {
        hash.update(name);
        hash.update(text);
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
