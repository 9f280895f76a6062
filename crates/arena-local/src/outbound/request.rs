//! What a client may ask its proxy for: `CONNECT`, or a plain request that is sent on.

use std::io;
use std::net::Ipv6Addr;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use url::Url;

const HTTP_PORT: u16 = 80;
/// Size of a proxy request's head.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// What a client asks its proxy for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProxyRequest {
    pub(super) host: String,
    pub(super) port: u16,
    /// For a plain request: the head to send on.
    pub(super) plain: Option<String>,
}

impl ProxyRequest {
    /// Reads a request's head.
    pub(super) fn parse(head: &str) -> Option<Self> {
        let (line, lines) = head.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return None;
        }
        if method == "CONNECT" {
            let (host, port) = target.rsplit_once(':')?;
            let port = port
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| port.parse().ok())??;
            return Some(Self {
                host: host_name(host)?,
                port,
                plain: None,
            });
        }
        let url = Url::parse(target)
            .ok()
            .filter(|url| url.scheme() == "http" && url.username().is_empty())?;
        let (host, port) = (host_name(url.host_str()?)?, url.port().unwrap_or(HTTP_PORT));
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let authority = if port == HTTP_PORT {
            host.clone()
        } else {
            format!("{host}:{port}")
        };
        let mut plain =
            format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
        for line in lines.split("\r\n").filter(|line| !line.is_empty()) {
            let name = line
                .split(':')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            if !matches!(name.as_str(), "host" | "connection" | "keep-alive")
                && !name.starts_with("proxy-")
            {
                plain.push_str(line);
                plain.push_str("\r\n");
            }
        }
        plain.push_str("\r\n");
        Some(Self {
            host,
            port,
            plain: Some(plain),
        })
    }
}

/// Returns a host name in lower case without its final dot, or an address without brackets.
fn host_name(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        return inner
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(|address| address.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    (plain && !name.is_empty() && name.len() <= 253).then_some(name)
}

/// Reads up to the empty line; returns the head and what came after it.
pub(super) async fn read_head(client: &mut UnixStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            let head = String::from_utf8(bytes)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            return Ok((head, rest));
        }
        if bytes.len() >= HEAD_BYTES_MAX || client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_in_one_way() {
        let parse = |line: &str| {
            ProxyRequest::parse(&format!(
                "{line}\r\nHost: x\r\nProxy-Authorization: y\r\nA: b\r\n\r\n"
            ))
        };
        let connect = parse("CONNECT Registry.Example.:443 HTTP/1.1").unwrap();
        assert_eq!(
            (connect.host.as_str(), connect.port, connect.plain),
            ("registry.example", 443, None)
        );
        assert_eq!(parse("CONNECT [::1]:443 HTTP/1.1").unwrap().host, "::1");
        let plain = parse("GET http://registry.example:8081/a?b HTTP/1.1").unwrap();
        let head =
            "GET /a?b HTTP/1.1\r\nHost: registry.example:8081\r\nConnection: close\r\nA: b\r\n\r\n";
        assert_eq!(plain.plain.as_deref(), Some(head));
        for line in [
            "CONNECT registry.example HTTP/1.1",
            "CONNECT a:+443 HTTP/1.1",
            "CONNECT a@b:443 HTTP/1.1",
            "CONNECT a:443",
            "GET / HTTP/1.1",
            "GET https://a/ HTTP/1.1",
            "GET http://u@a/ HTTP/1.1",
            "CONNECT a:443 HTTP/1.1 x",
            "",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
