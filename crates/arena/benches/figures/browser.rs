//! A person's browser as far as figures need one: requests over loopback,
//! cookies by host, redirects, and streams of server-sent events. Small and
//! blocking, so that the meter costs next to nothing beside what it measures.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;

const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const BODY_BYTES_MAX: u64 = 8 * 1024 * 1024;
const VIEWER_STACK_BYTES: usize = 256 * 1024;
const REDIRECTS_MAX: usize = 10;

/// Somebody with cookies.
#[derive(Clone)]
pub(crate) struct Browser {
    port: u16,
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    location: Option<String>,
}

/// One event of a stream, with the instant it came.
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) clock: Timestamp,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// An open stream of server-sent events; whoever drops it leaves, as a browser does.
pub(crate) struct Stream {
    seen: Receiver<Seen>,
    connection: TcpStream,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.connection.shutdown(Shutdown::Both);
    }
}

struct Response {
    connection: TcpStream,
    status: u16,
    headers: Vec<(String, String)>,
    body: Box<dyn Read + Send>,
}

impl Browser {
    /// Returns a browser without cookies, for the gateway on that port.
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            cookies: BTreeMap::new(),
        }
    }

    /// Opens a page as the address line does, through redirects and hand-overs.
    pub(crate) fn open(&mut self, host: &str, path: &str) -> anyhow::Result<Answer> {
        let (mut host, mut path) = (host.to_owned(), path.to_owned());
        for _ in 0..REDIRECTS_MAX {
            let answer = self.send("GET", &host, &path, None)?;
            let Some(to) = answer.location.as_deref() else {
                return Ok(answer);
            };
            match to.strip_prefix("http://") {
                Some(rest) => {
                    let (authority, below) = rest.split_once('/').unwrap_or((rest, ""));
                    host = authority.split(':').next().unwrap_or_default().to_owned();
                    path = format!("/{below}");
                }
                None => path = format!("/{}", to.trim_start_matches('.').trim_start_matches('/')),
            }
        }
        bail!("http://{host}{path} goes round in a circle")
    }

    /// Sends a form, as its page does; redirects are not followed.
    pub(crate) fn submit(&mut self, host: &str, path: &str, form: &str) -> anyhow::Result<Answer> {
        self.send("POST", host, path, Some(form))
    }

    /// Opens a personal link and presses its button.
    pub(crate) fn join(&mut self, host: &str, link: &str) -> anyhow::Result<()> {
        let path = link
            .find("/join/")
            .map(|at| &link[at..])
            .context("no link")?;
        let page = self.open(host, path)?;
        let token = page
            .body
            .split("name=\"csrf\" value=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .context("the link's page has no button")?;
        let answer = self.submit(host, path, &format!("csrf={token}"))?;
        ensure!(
            answer.status == 303,
            "the button answered {}",
            answer.status
        );
        Ok(())
    }

    /// Opens the live events of a host.
    pub(crate) fn events(&self, host: &str) -> anyhow::Result<Stream> {
        let response = self.exchange("GET", host, "/_arena/events", None)?;
        ensure!(
            response.status == 200,
            "the events answered {}",
            response.status
        );
        let (sender, seen) = channel();
        let body = response.body;
        std::thread::spawn(move || read_events(body, &sender));
        let connection = response.connection;
        Ok(Stream { seen, connection })
    }

    /// Opens the live events of a host and tells when a board holds one of `words` for the first time,
    /// with the word's index. Reads no JSON: hundreds of these must cost little.
    pub(crate) fn watch(
        &self,
        host: &str,
        words: Arc<Vec<String>>,
        sender: Sender<(usize, Timestamp)>,
    ) -> anyhow::Result<()> {
        let response = self.exchange("GET", host, "/_arena/events", None)?;
        ensure!(
            response.status == 200,
            "the events answered {}",
            response.status
        );
        std::thread::Builder::new()
            .stack_size(VIEWER_STACK_BYTES)
            .spawn(move || {
                let mut seen = vec![false; words.len()];
                for line in BufReader::new(response.body).lines().map_while(Result::ok) {
                    let now = Timestamp::now();
                    for (index, word) in words.iter().enumerate() {
                        if !seen[index] && line.starts_with("data: ") && line.contains(word) {
                            seen[index] = true;
                            if sender.send((index, now)).is_err() {
                                return;
                            }
                        }
                    }
                }
            })?;
        Ok(())
    }

    fn send(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        form: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let response = self.exchange(method, host, path, form)?;
        let mut location = None;
        for (name, value) in &response.headers {
            match name.as_str() {
                "location" => location = Some(value.clone()),
                "set-cookie" => {
                    let pair = value.split(';').next().unwrap_or_default();
                    if let Some((name, value)) = pair.split_once('=') {
                        let own = self.cookies.entry(host.to_owned()).or_default();
                        own.insert(name.to_owned(), value.to_owned());
                    }
                }
                _ => {}
            }
        }
        let mut body = Vec::new();
        response
            .body
            .take(BODY_BYTES_MAX)
            .read_to_end(&mut body)
            .with_context(|| format!("http://{host}{path} broke off"))?;
        Ok(Answer {
            status: response.status,
            body: String::from_utf8_lossy(&body).into_owned(),
            location,
        })
    }

    fn exchange(
        &self,
        method: &str,
        host: &str,
        path: &str,
        form: Option<&str>,
    ) -> anyhow::Result<Response> {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.port)).context("cannot reach the gateway")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let own = self.cookies.get(host);
        let cookies: Vec<String> = own
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let port = self.port;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\naccept: text/html\r\n"
        );
        if !cookies.is_empty() {
            request.push_str(&format!("cookie: {}\r\n", cookies.join("; ")));
        }
        match form {
            Some(form) => request.push_str(&format!(
                "origin: http://{host}:{port}\r\nsec-fetch-site: same-origin\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
                form.len()
            )),
            None if path.starts_with("/_arena/events") => request
                .push_str("sec-fetch-site: same-origin\r\nsec-fetch-mode: cors\r\nsec-fetch-dest: empty\r\n\r\n"),
            None => request
                .push_str("sec-fetch-site: none\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n\r\n"),
        }
        stream.write_all(request.as_bytes())?;
        read_head(stream).with_context(|| format!("no answer from http://{host}{path}"))
    }
}

fn read_head(stream: TcpStream) -> anyhow::Result<Response> {
    let connection = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("no status line")?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let find = |wanted: &str| {
        let mut found = headers.iter().filter(|(name, _)| name == wanted);
        found.next().map(|(_, value)| value.clone())
    };
    let body: Box<dyn Read + Send> = if find("transfer-encoding").is_some() {
        Box::new(Chunked { reader, left: 0 })
    } else {
        let length = find("content-length").and_then(|length| length.parse().ok());
        Box::new(reader.take(length.unwrap_or(u64::MAX)))
    };
    Ok(Response {
        connection,
        status,
        headers,
        body,
    })
}

/// A body in chunks.
struct Chunked<R> {
    reader: R,
    left: usize,
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            // The line break after the last chunk, then the size of the next.
            while line.trim().is_empty() {
                line.clear();
                if self.reader.read_line(&mut line)? == 0 {
                    return Ok(0);
                }
            }
            self.left = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let wanted = buffer.len().min(self.left);
        let read = self.reader.read(&mut buffer[..wanted])?;
        self.left -= read;
        Ok(read)
    }
}

/// Sends on what comes, until the stream or its reader ends.
fn read_events(body: Box<dyn Read + Send>, sender: &Sender<Seen>) {
    let mut name = String::new();
    for line in BufReader::new(body).lines() {
        let Ok(line) = line else {
            return;
        };
        if let Some(text) = line.strip_prefix("event: ") {
            text.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let seen = Seen {
                at: Instant::now(),
                clock: Timestamp::now(),
                name: std::mem::take(&mut name),
                data: serde_json::from_str(data).unwrap_or_default(),
            };
            if sender.send(seen).is_err() {
                return;
            }
        }
    }
}

impl Stream {
    /// Waits for an event that is wanted.
    pub(crate) fn find(
        &self,
        limit: Duration,
        what: &str,
        mut wanted: impl FnMut(&Seen) -> bool,
    ) -> anyhow::Result<Seen> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let seen = self
                .seen
                .recv_timeout(left)
                .with_context(|| format!("waited {limit:?} in vain for {what}"))?;
            if wanted(&seen) {
                return Ok(seen);
            }
        }
    }
}
