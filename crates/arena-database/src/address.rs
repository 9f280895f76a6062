//! The address of a configured PostgreSQL: `postgres://user:password@host:port/database`, with the
//! options of libpq that say how it is encrypted.

use std::path::PathBuf;

use thiserror::Error;
use url::Url;

use crate::{PostgresAdmin, PostgresTls, TlsError};

const PORT: u16 = 5432;

/// Why an address cannot be used.
#[derive(Debug, Error)]
pub enum AddressError {
    /// It is of another shape.
    #[error("it is not of the form postgres://user:password@host:port/database: {0}")]
    Form(&'static str),
    /// An option that nobody here knows.
    #[error("the option {0} is not known: use sslmode and sslrootcert")]
    Option(String),
    /// A way of encryption that is not offered.
    #[error("sslmode={0} is not offered: use disable, require, or verify-full")]
    Mode(String),
    /// The file of root certificates.
    #[error("cannot read the root certificates in {path}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The certificates.
    #[error("cannot encrypt")]
    Tls(#[source] TlsError),
}

impl PostgresAdmin {
    /// Reads a configured address. `sslmode` is `require` where nothing else is said and the server is
    /// not on this machine; `sslrootcert` names a file of PEM text, else the public authorities are
    /// believed.
    ///
    /// # Errors
    /// When it is of another form, or its certificates cannot be read.
    pub fn parse(uri: &str) -> Result<Self, AddressError> {
        let url = Url::parse(uri).map_err(|_| AddressError::Form("it is no address"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(AddressError::Form("it begins with something else"));
        }
        if url.username().is_empty() {
            return Err(AddressError::Form("it names no user"));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host
            .ok_or(AddressError::Form("it names no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        let tls = tls(&url, &host)?;
        let database = decoded(url.path().trim_start_matches('/'));
        Ok(Self {
            host,
            port: url.port().unwrap_or(PORT),
            user: decoded(url.username()),
            password: url.password().map(decoded),
            database: if database.is_empty() {
                "postgres".to_owned()
            } else {
                database
            },
            tls,
            extensions: Vec::new(),
        })
    }
}

fn tls(url: &Url, host: &str) -> Result<PostgresTls, AddressError> {
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "::1");
    let mut mode = if is_here { "disable" } else { "require" }.to_owned();
    let mut roots = None;
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "sslmode" => mode = value.into_owned(),
            "sslrootcert" if value == "system" => roots = None,
            "sslrootcert" => roots = Some(PathBuf::from(value.into_owned())),
            _ => return Err(AddressError::Option(name.into_owned())),
        }
    }
    let roots = match roots {
        Some(path) => {
            Some(std::fs::read(&path).map_err(|source| AddressError::Roots { path, source })?)
        }
        None => None,
    };
    match (mode.as_str(), roots) {
        ("disable", _) => Ok(PostgresTls::off()),
        ("require", None) => PostgresTls::unverified().map_err(AddressError::Tls),
        // As libpq: who names roots wants them looked at.
        ("require" | "verify-full", roots) => {
            PostgresTls::verified(roots.as_deref()).map_err(AddressError::Tls)
        }
        _ => Err(AddressError::Mode(mode)),
    }
}

/// Undoes `%41`.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_libpq_reads_it() {
        let admin =
            PostgresAdmin::parse("postgresql://the%20admin:p%40ss%2F@db.example.com/work").unwrap();
        assert_eq!(
            (admin.host.as_str(), admin.port, admin.user.as_str()),
            ("db.example.com", 5432, "the admin")
        );
        assert_eq!(admin.password.as_deref(), Some("p@ss/"));
        assert_eq!(admin.database, "work");
        assert_eq!(format!("{:?}", admin.tls), "on", "away from here");
        let here = PostgresAdmin::parse("postgres://a@[::1]:5433").unwrap();
        assert_eq!((here.host.as_str(), here.port), ("::1", 5433));
        assert_eq!(here.database, "postgres");
        assert_eq!(format!("{:?}", here.tls), "off");
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        for (uri, why) in [
            ("mysql://a@b/c", "begins with something else"),
            ("postgres://b/c", "no user"),
            (
                "postgres://a@b/c?sslmode=prefer",
                "sslmode=prefer is not offered",
            ),
            (
                "postgres://a@b/c?target_session_attrs=any",
                "target_session_attrs",
            ),
            (
                "postgres://a@b/c?sslrootcert=/nowhere/ca.pem",
                "/nowhere/ca.pem",
            ),
        ] {
            let error = PostgresAdmin::parse(uri).unwrap_err().to_string();
            assert!(error.contains(why), "{uri}: {error}");
        }
    }
}
