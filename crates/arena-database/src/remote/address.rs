//! The URI of a MongoDB that somebody else runs: what it says, and the URIs that
//! follow from it. Pure text; user, password and values stay as they were written
//! (percent signs included), because they go into other URIs only.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::SeatDatabase;

/// MongoDB's port where a URI names none.
const PORT: u16 = 27017;
/// Below it only a privileged process may listen, and a seat has none.
const PORT_MIN: u16 = 1024;
const PLAIN: &str = "mongodb://";
const SRV: &str = "mongodb+srv://";

/// Options that are the administrator's own, or name files of this machine: no seat gets them.
const NOT_FOR_SEATS: [&str; 15] = [
    "authsource",
    "authmechanism",
    "authmechanismproperties",
    "gssapiservicename",
    "proxyhost",
    "proxypassword",
    "proxyport",
    "proxyusername",
    "srvmaxhosts",
    "srvservicename",
    "tlscafile",
    "tlscrlfile",
    "tlscertificatekeyfile",
    "tlscertificatekeyfilepassword",
    "tlsdisablecertificaterevocationcheck",
];

/// A server's name and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// Name in small letters, or address without brackets.
    pub name: String,
    /// Port.
    pub port: u16,
}

impl Host {
    /// Reads `name`, `name:port`, `[::1]:port`.
    ///
    /// # Errors
    /// When it names nothing, a unix socket, or a port that is no number.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Host(text.to_owned());
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']').ok_or_else(wrong)?;
                name.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                (name, port.strip_prefix(':'))
            }
            None => match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(wrong());
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| wrong())?,
            None => PORT,
        };
        Ok(Self {
            name: name.to_ascii_lowercase(),
            port,
        })
    }

    /// Returns the address, where the host is named by one.
    pub fn address(&self) -> Option<IpAddr> {
        self.name.parse().ok()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            _ => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// Why a URI cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Another scheme.
    #[error("it begins with neither mongodb:// nor mongodb+srv://")]
    Scheme,
    /// Nobody to log in as.
    #[error("it names no user; name one who may make users")]
    NoUser,
    /// A user or password with a sign that must be written as `%..`.
    #[error(
        "its user or password holds a sign that must be written as %.. (@ is %40, : is %3A, / is %2F)"
    )]
    Unescaped,
    /// A host that is none.
    #[error("`{0}` is not a host name with a port; a unix socket cannot be reached from seats")]
    Host(String),
    /// `mongodb+srv://` with several hosts, a port or an address.
    #[error("mongodb+srv:// takes one host name without a port")]
    SrvHost,
    /// One connection to several servers.
    #[error("it says directConnection=true and names more than one host")]
    DirectToMany,
    /// A port that no seat can listen on.
    #[error(
        "port {0} is below 1024, where a seat cannot listen; let the server listen on a higher one"
    )]
    Port(u16),
}

/// A configured URI, read.
#[derive(Clone, PartialEq, Eq)]
pub struct MongodbAddress {
    pub(super) is_srv: bool,
    user: Option<String>,
    pub(super) hosts: Vec<Host>,
    database: String,
    options: Vec<(String, String)>,
}

impl fmt::Debug for MongodbAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongodbAddress")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl MongodbAddress {
    /// Reads `mongodb://` and `mongodb+srv://` URIs.
    ///
    /// # Errors
    /// What is wrong, never with the password.
    pub fn parse(uri: &str) -> Result<Self, AddressError> {
        let (is_srv, rest) = match (uri.strip_prefix(SRV), uri.strip_prefix(PLAIN)) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(AddressError::Scheme),
        };
        let (front, options) = rest.split_once('?').unwrap_or((rest, ""));
        let options = options.split('&').filter_map(|pair| pair.split_once('='));
        let (user, place) = match front.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, front),
        };
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let hosts: Vec<Host> = hosts
            .split(',')
            .map(Host::parse)
            .collect::<Result<_, _>>()?;
        let address = Self {
            is_srv,
            user,
            hosts,
            database: database.to_owned(),
            options: options
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        };
        address.check(place)?;
        Ok(address)
    }

    fn check(&self, place: &str) -> Result<(), AddressError> {
        match &self.user {
            None if !self.has("authMechanism", "MONGODB-X509") => return Err(AddressError::NoUser),
            Some(user) if user.contains(['/', '@', '?', ' ']) || user.matches(':').count() > 1 => {
                return Err(AddressError::Unescaped);
            }
            _ => {}
        }
        if self.is_srv {
            let names_port = place.split('/').next().unwrap_or_default().contains(':');
            let is_name = self.hosts[0].address().is_none() && self.hosts[0].name.contains('.');
            if self.hosts.len() > 1 || names_port || !is_name {
                return Err(AddressError::SrvHost);
            }
        }
        if self.is_direct() && self.hosts.len() > 1 {
            return Err(AddressError::DirectToMany);
        }
        match self.hosts.iter().find(|host| host.port < PORT_MIN) {
            Some(host) => Err(AddressError::Port(host.port)),
            None => Ok(()),
        }
    }

    /// Returns whether clients stay with the one server that the URI names.
    pub fn is_direct(&self) -> bool {
        self.has("directConnection", "true") || self.has("loadBalanced", "true")
    }

    /// Returns whether it is a cluster of MongoDB's own cloud.
    pub fn is_atlas(&self) -> bool {
        let is_atlas = |host: &Host| host.name.ends_with(".mongodb.net");
        self.hosts.iter().any(is_atlas)
    }

    /// Returns the file of this machine with the authorities that sign the servers' certificates.
    pub fn authorities(&self) -> Option<String> {
        self.option("tlsCAFile").map(decoded)
    }

    /// Returns the name of the administrator, for messages.
    pub fn administrator(&self) -> String {
        let user = self.user.as_deref().unwrap_or("the certificate's user");
        decoded(user.split(':').next().unwrap_or(user))
    }

    /// Returns the administrator's URI without SRV names.
    pub fn uri(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@"));
        format!(
            "{}{}{}/{}{}",
            if self.is_srv { SRV } else { PLAIN },
            user.unwrap_or_default(),
            joined(&self.hosts),
            self.database,
            question(
                self.options
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
            ),
        )
    }

    /// Returns a seat's URI to these hosts: with its own user, whom every server looks for in
    /// `admin`, and without what is the administrator's own. `authorities` is where the seat
    /// finds the file of [`MongodbAddress::authorities`].
    pub fn seat_uri(
        &self,
        seat: &SeatDatabase,
        hosts: &[Host],
        authorities: Option<&str>,
    ) -> String {
        let own = [("authSource", "admin")];
        let kept = self.options.iter().filter_map(|(name, value)| {
            let is_kept = !NOT_FOR_SEATS.contains(&name.to_ascii_lowercase().as_str());
            is_kept.then_some((name.as_str(), value.as_str()))
        });
        let authorities = authorities.map(|path| ("tlsCAFile", path));
        format!(
            "{PLAIN}{}:{}@{}/{}{}",
            seat.name,
            seat.password,
            joined(hosts),
            seat.name,
            question(own.into_iter().chain(kept).chain(authorities)),
        )
    }

    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let found = self
            .options
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Adds an option that the URI does not have.
    pub(super) fn default_option(&mut self, name: &str, value: &str) {
        if self.option(name).is_none() {
            self.options.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Replaces the SRV name by the hosts that it stands for.
    pub(super) fn resolved(mut self, hosts: Vec<Host>) -> Self {
        let is_for_srv = |name: &str| {
            ["srvmaxhosts", "srvservicename"].contains(&name.to_ascii_lowercase().as_str())
        };
        self.options.retain(|(name, _)| !is_for_srv(name));
        Self {
            is_srv: false,
            hosts,
            ..self
        }
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.option(name)
            .is_some_and(|found| found.eq_ignore_ascii_case(value))
    }
}

fn joined(hosts: &[Host]) -> String {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    hosts.join(",")
}

fn question<'a>(options: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let options: Vec<String> = options
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if options.is_empty() {
        String::new()
    } else {
        format!("?{}", options.join("&"))
    }
}

/// Undoes percent signs; a broken one stays as it is.
fn decoded(text: &str) -> String {
    let (bytes, mut plain, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|_| byte == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                plain.push(decoded);
                at += 3;
            }
            None => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arena_workshop::DatabaseName;

    fn seat() -> SeatDatabase {
        SeatDatabase {
            name: DatabaseName::new("ada").unwrap(),
            password: "secret".to_owned(),
        }
    }

    #[test]
    fn a_seat_keeps_hosts_and_options_and_has_its_own_user() {
        let address = MongodbAddress::parse(
            "mongodb://root:p%40w@A.example.com:27117,b.example.com/admin?authSource=admin&replicaSet=rs0&tls=true\
             &tlsCAFile=%2Fetc%2Fca.pem&tlsCertificateKeyFile=/root/key.pem&authMechanism=SCRAM-SHA-1",
        )
        .unwrap();
        assert_eq!(
            address.seat_uri(&seat(), &address.hosts, Some("/run/arena/ca.pem")),
            "mongodb://ada:secret@a.example.com:27117,b.example.com:27017/ada\
             ?authSource=admin&replicaSet=rs0&tls=true&tlsCAFile=/run/arena/ca.pem"
        );
        assert_eq!(address.authorities().as_deref(), Some("/etc/ca.pem"));
        assert!(address.uri().starts_with(
            "mongodb://root:p%40w@a.example.com:27117,b.example.com:27017/admin?authSource=admin&"
        ));
    }

    #[test]
    fn addresses_of_both_families_are_hosts() {
        let address = MongodbAddress::parse("mongodb://u:p@[::1]:27018/").unwrap();
        assert_eq!(address.hosts[0].address(), "::1".parse().ok());
        assert_eq!(address.uri(), "mongodb://u:p@[::1]:27018/");
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        use AddressError::{DirectToMany, NoUser, Port, Scheme, SrvHost, Unescaped};
        let host = |text: &str| AddressError::Host(text.to_owned());
        for (uri, why) in [
            ("http://root:pw@db.example.com/", Scheme),
            ("mongodb://db.example.com/", NoUser),
            ("mongodb://root:p@w@db.example.com/", Unescaped),
            ("mongodb://root:p:w@db.example.com/", Unescaped),
            ("mongodb://root:pw@db:x/", host("db:x")),
            ("mongodb://root:pw@/", host("")),
            (
                "mongodb://root:pw@%2Ftmp%2Fm.sock/",
                host("%2Ftmp%2Fm.sock"),
            ),
            ("mongodb://root:pw@[::1/", host("[::1")),
            ("mongodb://root:pw@a,b/?directConnection=true", DirectToMany),
            ("mongodb://root:pw@a:80/", Port(80)),
            ("mongodb+srv://root:pw@a.example.com:27017/", SrvHost),
            (
                "mongodb+srv://root:pw@a.example.com,b.example.com/",
                SrvHost,
            ),
            ("mongodb+srv://root:pw@10.0.0.1/", SrvHost),
        ] {
            assert_eq!(MongodbAddress::parse(uri).unwrap_err(), why, "{uri}");
        }
    }

    #[test]
    fn a_password_is_in_no_message() {
        let address = MongodbAddress::parse("mongodb://root:hunter2@db.example.com/").unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
        assert_eq!(address.administrator(), "root");
    }
}
