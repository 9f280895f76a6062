//! How a seat's PostgreSQL is reached, in the forms that people and programs paste: pure text, made
//! from the plan and a password (or the placeholder of one).

/// A seat's PostgreSQL in every form that is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConnection {
    /// Host and port, such as `127.0.0.1:5432`.
    pub endpoint: String,
    /// `postgresql://user:password@host:port/database`.
    pub uri: String,
    /// The same for Java: `jdbc:postgresql://host:port/database?user=…&password=…`.
    pub jdbc: String,
    /// What to type in a terminal that is not the seat's; there `psql` alone is enough.
    pub psql: String,
}

impl PostgresConnection {
    /// Returns the forms for a role and its database of the same name.
    pub fn new(host: &str, port: u16, name: &str, password: &str, sslmode: Option<&str>) -> Self {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let endpoint = format!("{host}:{port}");
        let (user, secret) = (encoded(name), encoded(password));
        let mode = |first: char| {
            sslmode
                .map(|mode| format!("{first}sslmode={mode}"))
                .unwrap_or_default()
        };
        let uri = format!(
            "postgresql://{user}:{secret}@{endpoint}/{user}{}",
            mode('?')
        );
        Self {
            jdbc: format!(
                "jdbc:postgresql://{endpoint}/{user}?user={user}&password={secret}{}",
                mode('&')
            ),
            psql: format!("psql '{uri}'"),
            endpoint,
            uri,
        }
    }
}

/// Encodes a part of an address; a placeholder of a secret stays, since secrets need no encoding.
fn encoded(text: &str) -> String {
    if text.starts_with("${secret:") {
        return text.to_owned();
    }
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_leads_to_the_same_place() {
        let ada =
            PostgresConnection::new("db.example.com", 5433, "ada", "p@ss'/w", Some("require"));
        assert_eq!(ada.endpoint, "db.example.com:5433");
        assert_eq!(
            ada.uri,
            "postgresql://ada:p%40ss%27%2Fw@db.example.com:5433/ada?sslmode=require"
        );
        assert_eq!(
            ada.jdbc,
            "jdbc:postgresql://db.example.com:5433/ada?user=ada&password=p%40ss%27%2Fw&sslmode=require"
        );
        assert_eq!(ada.psql, format!("psql '{}'", ada.uri));
        let six = PostgresConnection::new("::1", 5432, "bo-b", "x", None);
        assert_eq!(six.uri, "postgresql://bo-b:x@[::1]:5432/bo-b");
    }
}
