//! The filtered way out of a seat: an HTTP proxy on a unix socket of the seat's
//! own. It allows only hosts on a list, looks a name up once, refuses every
//! address that is not somewhere on the public internet, and connects to exactly
//! the address that it checked. Every connection is one line in the log.
//!
//! `CONNECT` is for everything; plain requests in proxy form only for registries
//! that this machine itself is configured with ([`machine_registries`]).

mod address;
mod request;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arena_workshop::SeatId;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::address::why_refused;
use self::request::{ProxyRequest, read_head};
use crate::forward::{RelayLimits, ServeError, each_connection, relay};

const HTTPS_PORT: u16 = 443;
/// Time to send it, and to look a name up.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// Time to connect to one address.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Time for a package client to print its configuration.
const CONFIG_WAIT: Duration = Duration::from_secs(20);

/// Everything [`serve`] needs besides its listener.
#[derive(Clone)]
pub struct Settings {
    /// Whose way out it is.
    pub seat: SeatId,
    /// Which hosts.
    pub allowed: Allowed,
    /// How much.
    pub limits: Limits,
    /// How names are looked up and connections made.
    pub network: Network,
}

/// Which hosts a seat may reach (`arena.seats.outbound`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// None at all.
    None,
    /// Those on the list.
    List(Vec<Rule>),
    /// Every public host, port 443.
    All,
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    host: String,
    with_subdomains: bool,
    port: u16,
    is_machines_own: bool,
}

/// An entry that names no host.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("cannot read {0:?} as a host: write registry.example, *.example or registry.example:8443")]
pub struct InvalidRule(String);

impl Rule {
    /// Reads `host`, `*.domain` (all hosts below it) or either with `:port`; port 443 else.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidRule> {
        let invalid = || InvalidRule(text.to_owned());
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().map_err(|_| invalid())?),
            None => (text, HTTPS_PORT),
        };
        let (name, with_subdomains) = name
            .strip_prefix("*.")
            .map_or((name, false), |domain| (domain, true));
        let labels = name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
        if !labels || name.len() > 253 {
            return Err(invalid());
        }
        Ok(Self {
            host: name.to_ascii_lowercase(),
            with_subdomains,
            port,
            is_machines_own: false,
        })
    }

    /// Returns the rule for a registry that this machine is configured with: its own port, and
    /// also inside the network that the machine is in.
    pub fn registry(url: &Url) -> Option<Self> {
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        let host = host.to_ascii_lowercase();
        matches!(url.scheme(), "http" | "https").then_some(Self {
            host,
            with_subdomains: false,
            port,
            is_machines_own: true,
        })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let below = || {
            host.strip_suffix(&self.host)
                .is_some_and(|rest| rest.ends_with('.'))
        };
        self.port == port
            && if self.with_subdomains {
                below()
            } else {
                host == self.host
            }
    }
}

/// How much a seat may carry out and in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. 64.
    pub connections_max: usize,
    /// Bytes of one connection, both ways. 2 GiB.
    pub bytes_max: u64,
    /// Life of one connection. 30 min.
    pub time_max: Duration,
    /// Silence on one connection. 2 min.
    pub idle_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 64,
            bytes_max: 2 << 30,
            time_max: Duration::from_secs(30 * 60),
            idle_max: Duration::from_secs(120),
        }
    }
}

type Waiting<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;
type Lookup = dyn Fn(String, u16) -> Waiting<Vec<IpAddr>> + Send + Sync;
type Dial = dyn Fn(SocketAddr) -> Waiting<TcpStream> + Send + Sync;

/// How names are looked up and connections made; a test brings its own.
#[derive(Clone)]
pub struct Network {
    lookup: Arc<Lookup>,
    dial: Arc<Dial>,
}

impl Network {
    /// Returns this machine's network.
    pub fn system() -> Self {
        Self::new(
            |host, port| {
                Box::pin(async move {
                    Ok(tokio::net::lookup_host((host, port))
                        .await?
                        .map(|address| address.ip())
                        .collect())
                })
            },
            |address| Box::pin(TcpStream::connect(address)),
        )
    }

    /// Returns a network made of two functions.
    pub fn new(
        lookup: impl Fn(String, u16) -> Waiting<Vec<IpAddr>> + Send + Sync + 'static,
        dial: impl Fn(SocketAddr) -> Waiting<TcpStream> + Send + Sync + 'static,
    ) -> Self {
        Self {
            lookup: Arc::new(lookup),
            dial: Arc::new(dial),
        }
    }
}

/// Serves a seat's way out until `shutdown` is called, then cuts its connections.
///
/// # Errors
/// Only when there is a bug.
pub async fn serve(
    settings: Settings,
    listener: UnixListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let slots = Arc::new(Semaphore::new(settings.limits.connections_max));
    let way = Arc::new(settings);
    each_connection(listener, shutdown, move |client| {
        let (way, slots) = (way.clone(), slots.clone());
        async move {
            let slot = slots.try_acquire();
            way.serve(client, slot.is_ok()).await;
        }
    })
    .await
}

/// Returns rules for the registries that npm and pip of this machine are configured with.
/// A client that is missing or does not answer adds none.
pub async fn machine_registries() -> Vec<Rule> {
    let ask = async |program: &str, key: &str| {
        let mut command = tokio::process::Command::new(program);
        command
            .args(["config", "get", key])
            .current_dir("/")
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        let answer = tokio::time::timeout(CONFIG_WAIT, command.output()).await;
        let output = answer.ok()?.ok()?;
        registry_of(&String::from_utf8_lossy(&output.stdout))
    };
    // Each takes half a second and more.
    let (npm, pip) = tokio::join!(ask("npm", "registry"), ask("pip3", "global.index-url"));
    let mut rules: Vec<Rule> = npm.into_iter().chain(pip).collect();
    rules.extend(
        std::env::var("PIP_INDEX_URL")
            .ok()
            .as_deref()
            .and_then(registry_of),
    );
    rules
}

fn registry_of(printed: &str) -> Option<Rule> {
    printed
        .lines()
        .find_map(|line| Rule::registry(&Url::parse(line.trim()).ok()?))
}

/// Why a seat's request goes nowhere.
#[derive(Debug, Error, PartialEq, Eq)]
enum Refused {
    #[error("this is no proxy request")]
    Malformed,
    #[error(
        "plain requests are only for registries that this machine is configured with; use https"
    )]
    Plain,
    #[error("{0} is not on the list of hosts that seats may reach (arena.seats.outbound)")]
    NotListed(String),
    #[error("{host} is {what}: seats reach public addresses only")]
    NotPublic { host: String, what: &'static str },
    #[error("cannot find {0}")]
    Unknown(String),
    #[error("cannot connect to {0}")]
    Unreachable(String),
    #[error("too many connections of this seat")]
    Crowded,
}

impl Refused {
    fn status(&self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::Plain | Self::NotListed(_) | Self::NotPublic { .. } => "403 Forbidden",
            Self::Unknown(_) | Self::Unreachable(_) => "502 Bad Gateway",
            Self::Crowded => "429 Too Many Requests",
        }
    }
}

impl Settings {
    async fn serve(&self, mut client: UnixStream, has_slot: bool) {
        let started = Instant::now();
        let mut target = String::new();
        let outcome = self.carry(&mut client, has_slot, &mut target).await;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match outcome {
            Ok(size_bytes) => {
                tracing::info!(seat.id = %self.seat, target_host = target, size_bytes, duration_ms, "a seat went out");
            }
            Err(refused) => {
                tracing::info!(seat.id = %self.seat, target_host = target, %refused, "a seat was kept in");
                let answer = format!(
                    "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\narena: {refused}\n",
                    refused.status()
                );
                // The client may have left: then nobody needs the answer.
                let _ = client.write_all(answer.as_bytes()).await;
                let _ = client.shutdown().await;
            }
        }
    }

    async fn carry(
        &self,
        client: &mut UnixStream,
        has_slot: bool,
        target: &mut String,
    ) -> Result<u64, Refused> {
        let read = tokio::time::timeout(HEAD_WAIT, read_head(client)).await;
        let (head, rest) = read.ok().and_then(Result::ok).ok_or(Refused::Malformed)?;
        let request = ProxyRequest::parse(&head).ok_or(Refused::Malformed)?;
        *target = format!("{}:{}", request.host, request.port);
        if !has_slot {
            return Err(Refused::Crowded);
        }
        let is_machines_own = self.check_listed(&request)?;
        let mut server = self.connect(&request, is_machines_own).await?;
        let unreachable = |_| Refused::Unreachable(request.host.clone());
        match &request.plain {
            None => client
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await
                .map_err(unreachable)?,
            Some(head) => server
                .write_all(head.as_bytes())
                .await
                .map_err(unreachable)?,
        }
        server.write_all(&rest).await.map_err(unreachable)?;
        let limits = RelayLimits {
            bytes_max: self.limits.bytes_max,
            time_max: Some(self.limits.time_max),
            idle_max: Some(self.limits.idle_max),
        };
        Ok(relay(client, server, &limits).await)
    }

    /// Returns whether the machine itself is configured with this host.
    fn check_listed(&self, request: &ProxyRequest) -> Result<bool, Refused> {
        let not_listed = || Refused::NotListed(format!("{}:{}", request.host, request.port));
        let is_machines_own = match &self.allowed {
            Allowed::None => return Err(not_listed()),
            Allowed::All if request.port != HTTPS_PORT => return Err(not_listed()),
            Allowed::All => false,
            Allowed::List(rules) => {
                let mut covering = rules
                    .iter()
                    .filter(|rule| rule.covers(&request.host, request.port))
                    .peekable();
                covering.peek().ok_or_else(not_listed)?;
                covering.any(|rule| rule.is_machines_own)
            }
        };
        if request.plain.is_some() && !is_machines_own {
            Err(Refused::Plain)
        } else {
            Ok(is_machines_own)
        }
    }

    /// Looks the name up once and connects to an address that was checked.
    async fn connect(
        &self,
        request: &ProxyRequest,
        is_machines_own: bool,
    ) -> Result<TcpStream, Refused> {
        let host = &request.host;
        let lookup = (self.network.lookup)(host.clone(), request.port);
        let found = tokio::time::timeout(HEAD_WAIT, lookup)
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or_default();
        let mut refused = None;
        let mut is_tried = false;
        for address in found.into_iter().take(ADDRESSES_MAX) {
            if let Some(what) = why_refused(address, is_machines_own) {
                refused = Some(what);
                continue;
            }
            is_tried = true;
            let dial = (self.network.dial)(SocketAddr::new(address, request.port));
            if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT_WAIT, dial).await {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
        }
        match refused {
            Some(what) if !is_tried => Err(Refused::NotPublic {
                host: host.clone(),
                what,
            }),
            _ if is_tried => Err(Refused::Unreachable(host.clone())),
            _ => Err(Refused::Unknown(host.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_cover_what_they_say() {
        let covers = |rule: &str, host: &str, port| Rule::parse(rule).unwrap().covers(host, port);
        assert!(covers("registry.example", "registry.example", 443));
        assert!(!covers("registry.example", "registry.example", 80));
        assert!(!covers("registry.example", "evil-registry.example", 443));
        assert!(!covers("registry.example", "a.registry.example", 443));
        assert!(covers("*.example.org", "a.b.example.org", 443));
        assert!(!covers("*.example.org", "example.org", 443));
        assert!(!covers("*.example.org", "evilexample.org", 443));
        assert!(covers("Registry.example:8443", "registry.example", 8443));
        for text in [
            "",
            "*",
            "*.",
            "a..b",
            "a b",
            "http://a.b",
            "a:b",
            "a:70000",
            "*a.b",
            "a/b",
        ] {
            assert!(Rule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_package_client_prints_becomes_a_rule() {
        let rule = registry_of("https://registry.example/npm/\n").unwrap();
        assert!(rule.covers("registry.example", 443) && rule.is_machines_own);
        assert!(
            registry_of("http://mirror.example:8081/\n")
                .unwrap()
                .covers("mirror.example", 8081)
        );
        assert_eq!(registry_of("undefined\n"), None);
    }
}
