//! The built front end under `/app/`: the path itself, an index in it, the path
//! with `.html`, and the front page for everything else, as the reference does.
//! Files are looked up beneath their folder and links are refused.

use std::fs::File;
use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};

use arena_workshop::plan::AppKind;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use crate::agent::Agent;
use crate::folder::Folder;
use crate::server::{Body, full, reads, refusal, text};

/// Read at once; files are on this machine, mostly in its memory.
const CHUNK: usize = 32 * 1024;

/// Answers a request for a file of the front end; `prefix` is the length of `/app`.
pub(crate) fn answer(agent: &Agent, request: &Request<Incoming>, prefix: usize) -> Response<Body> {
    if !reads(request.method()) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "These files can only be read.",
        );
    }
    let path = &request.uri().path()[prefix..];
    if path.is_empty() {
        let mut response = text(StatusCode::PERMANENT_REDIRECT, "See /app/.");
        response
            .headers_mut()
            .insert(header::LOCATION, HeaderValue::from_static("/app/"));
        return response;
    }
    let Some(folder) = front_end(agent) else {
        let words = "The front end is not built in this seat.";
        return refusal(StatusCode::NOT_FOUND, "no-route", words);
    };
    let Some(path) = decoded(path) else {
        return text(StatusCode::BAD_REQUEST, "This address cannot be read.");
    };
    let candidates = [
        path.clone(),
        format!("{path}/index.html"),
        format!("{path}.html"),
        "index.html".to_owned(),
    ];
    for candidate in candidates
        .iter()
        .filter(|candidate| !candidate.starts_with(['/', '.']))
    {
        if let Ok((file, stat)) = folder.file(candidate) {
            return found(request, candidate, file, &stat);
        }
    }
    text(
        StatusCode::NOT_FOUND,
        "There is no such file in the front end.",
    )
}

/// The first folder with a built front end.
fn front_end(agent: &Agent) -> Option<Folder> {
    let plan = agent
        .settings
        .apps
        .iter()
        .find(|app| app.kind == AppKind::Frontend)?;
    let app = agent.work.folder(&plan.folder).ok()?;
    plan.static_folders
        .iter()
        .find_map(|folder| app.folder(folder).ok())
}

/// Decodes a path; `None` for what no file is called. Without slashes at its ends.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(value).ok()?);
    }
    let path = String::from_utf8(bytes).ok()?;
    let bad = path.contains(['\0', '\\']) || path.split('/').any(|part| part == "..");
    (!bad).then(|| path.trim_matches('/').to_owned())
}

fn found(
    request: &Request<Incoming>,
    name: &str,
    file: File,
    stat: &rustix::fs::Stat,
) -> Response<Body> {
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    let tag = format!(
        "\"{:x}-{:x}-{:x}\"",
        stat.st_mtime, stat.st_mtime_nsec, length
    );
    let known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if known {
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        // hyper sends no body in answer to HEAD, but its length.
        Response::new(
            FileBody { file, left: length }
                .map_err(Into::into)
                .boxed_unsync(),
        )
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(content_type(name)),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn content_type(name: &str) -> &'static str {
    match name
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_str()
    {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

/// A file, read as the reader takes it. It ends after the length that it had when it was opened.
struct FileBody {
    file: File,
    left: u64,
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let wanted = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        if wanted == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; wanted];
        Poll::Ready(Some(self.file.read(&mut chunk).and_then(|count| {
            if count == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
            }
            chunk.truncate(count);
            self.left = self
                .left
                .saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
            Ok(Frame::data(chunk.into()))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn addresses_are_decoded_once_and_never_climb() {
        assert_eq!(decoded("/a%20b/c.js").as_deref(), Some("a b/c.js"));
        assert_eq!(decoded("/").as_deref(), Some(""));
        assert_eq!(decoded("/%252e%252e/x").as_deref(), Some("%2e%2e/x"));
        for climbing in [
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/a%2f..%2fx",
            "/%00",
            "/%zz",
            "/%",
        ] {
            assert_eq!(decoded(climbing), None, "{climbing}");
        }
    }
}
