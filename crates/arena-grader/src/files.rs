//! Files of a seat's work folder, read through the agent.

use bson::{Bson, Document};
use hyper::StatusCode;
use sha2::{Digest, Sha256};
use url::form_urlencoded::byte_serialize;

use crate::http::ask_agent;
use crate::session::{Session, StepFailure};

/// Returns `{exists, text}`.
pub(crate) async fn read(session: &Session<'_>, path: &str) -> Result<Document, StepFailure> {
    let bytes = fetch(session, path).await?;
    let mut document = Document::new();
    document.insert("exists", bytes.is_some());
    if let Some(bytes) = bytes {
        document.insert(
            "text",
            Bson::String(String::from_utf8_lossy(&bytes).into_owned()),
        );
    }
    Ok(document)
}

/// Returns the SHA-256 (hex) of the participant's files as they are; files that cannot be read
/// count as missing.
pub(crate) async fn hash(session: &Session<'_>, paths: &[String]) -> String {
    let mut hash = Sha256::new();
    for path in paths {
        let bytes = fetch(session, path).await.ok().flatten();
        hash.update(path.as_bytes());
        hash.update([0, u8::from(bytes.is_some())]);
        let bytes = bytes.unwrap_or_default();
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(&bytes);
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn fetch(session: &Session<'_>, path: &str) -> Result<Option<bytes::Bytes>, StepFailure> {
    let query: String = byte_serialize(path.as_bytes()).collect();
    let answer = ask_agent(
        session.seat,
        &format!("/files?path={query}"),
        session.limits,
    )
    .await?;
    match answer.status {
        StatusCode::OK => Ok(Some(answer.bytes)),
        StatusCode::NOT_FOUND => Ok(None),
        _ => Err(StepFailure::new(format!("the file {path} cannot be read"))),
    }
}
