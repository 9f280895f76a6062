//! Databases that somebody else runs: what the configured URIs say, and how a
//! seat reaches the server although its network is its own. A seat's loopback
//! has a forwarder; the server's real name leads there, so that TLS finds the
//! name that it expects.

use std::net::IpAddr;

use arena_database::{PostgresAdmin, SeatDatabase};
use arena_local::forward::Service;
use arena_workshop::plan::{MongodbSource, PostgresSource, SecretName};
use arena_workshop::{Plan, Workshop};

use crate::failure::{Failure, Kind};
use crate::platform::secrets::Secrets;

/// Port of MongoDB on every seat's loopback.
const MONGODB_PORT: u16 = 27017;

/// A configured MongoDB with one address.
#[derive(Clone)]
pub(crate) struct RemoteMongodb {
    /// As configured, with a user who may make users.
    pub(crate) uri: String,
    host: String,
    port: u16,
    /// Such as `tls=true`; no `authSource`.
    options: String,
}

/// Servers that the config names.
#[derive(Clone, Default)]
pub(crate) struct Remote {
    /// MongoDB.
    pub(crate) mongodb: Option<RemoteMongodb>,
    /// PostgreSQL.
    pub(crate) postgres: Option<PostgresAdmin>,
}

impl Remote {
    /// Reads the URIs that the plan builds on.
    ///
    /// # Errors
    /// Exit code 2 for a URI that cannot be read, or that names more than one server.
    pub(crate) fn of(workshop: &Workshop, plan: &Plan) -> Result<Self, Failure> {
        let configured = &workshop.config.arena.database;
        let mongodb = plan
            .databases
            .mongodb
            .as_ref()
            .filter(|mongodb| mongodb.source == MongodbSource::Uri);
        let postgres = plan
            .databases
            .postgres
            .as_ref()
            .filter(|postgres| postgres.source == PostgresSource::Uri);
        let mongodb = mongodb
            .and(configured.mongodb.as_ref())
            .map(|uri| RemoteMongodb::parse(uri.reveal()))
            .transpose()?;
        let postgres = postgres
            .and(configured.postgres.as_ref())
            .map(|uri| postgres_admin(uri.reveal()))
            .transpose()?;
        Ok(Self { mongodb, postgres })
    }

    /// Puts what seats are told about the servers among the secrets.
    pub(crate) fn fill(&self, plan: &Plan, secrets: &mut Secrets) {
        let Some(mongodb) = &self.mongodb else { return };
        for seat in &plan.seats {
            let password = secrets
                .get(&SecretName::seat_database(&seat.id))
                .unwrap_or_default()
                .to_owned();
            let own = SeatDatabase {
                name: seat.database.clone(),
                password,
            };
            let uri = mongodb.seat_uri(&own, mongodb.name_inside(), MONGODB_PORT);
            secrets.set(SecretName::seat_mongodb_uri(&seat.id), uri);
        }
    }

    /// Lines for the seats' hosts files: server names that lead to the seat's own loopback.
    pub(crate) fn hosts(&self) -> Vec<(String, String)> {
        let names = self
            .mongodb
            .iter()
            .map(RemoteMongodb::name_inside)
            .filter(|name| name.parse::<IpAddr>().is_err());
        names
            .map(|name| (name.to_owned(), "127.0.0.1".to_owned()))
            .collect()
    }
}

impl RemoteMongodb {
    fn parse(uri: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::configuration(format_args!("cannot use arena.database.mongodb: {why}"))
                .hint("write mongodb://user:password@host:port/?options, with one host and directConnection=true for a member of a replica set")
        };
        if uri.starts_with("mongodb+srv://") {
            return Err(wrong("seats cannot follow mongodb+srv:// names yet"));
        }
        let rest = uri
            .strip_prefix("mongodb://")
            .ok_or_else(|| wrong("it does not begin with mongodb://"))?;
        let (_, address) = rest
            .rsplit_once('@')
            .ok_or_else(|| wrong("it names no user who may make users"))?;
        let (hosts, path) = address.split_once('/').unwrap_or((address, ""));
        let options = path.split_once('?').map_or("", |(_, options)| options);
        if hosts.contains(',') {
            return Err(wrong(
                "it names more than one host, and seats reach only one yet",
            ));
        }
        let (host, port) = match hosts.rsplit_once(':') {
            Some((host, port)) => (
                host,
                port.parse()
                    .map_err(|_| wrong("its port is not a number"))?,
            ),
            None => (hosts, MONGODB_PORT),
        };
        let kept = options
            .split('&')
            .filter(|option| !option.is_empty() && !option.starts_with("authSource="));
        let options = kept.collect::<Vec<_>>().join("&");
        Ok(Self {
            uri: uri.to_owned(),
            host: host.to_owned(),
            port,
            options,
        })
    }

    /// Where the platform reaches the server.
    pub(crate) fn service(&self) -> Service {
        Service::Tcp {
            host: self.host.clone(),
            port: self.port,
        }
    }

    /// Returns a seat's URI from the platform's side.
    pub(crate) fn seat_uri_outside(&self, seat: &SeatDatabase) -> String {
        self.seat_uri(seat, &self.host, self.port)
    }

    /// What a seat calls the server: its name, or loopback where it has none.
    fn name_inside(&self) -> &str {
        if self.host.parse::<IpAddr>().is_ok() {
            "127.0.0.1"
        } else {
            &self.host
        }
    }

    /// Users are made in `admin`, where every server looks for them.
    fn seat_uri(&self, seat: &SeatDatabase, host: &str, port: u16) -> String {
        let options = if self.options.is_empty() {
            String::new()
        } else {
            format!("&{}", self.options)
        };
        format!(
            "mongodb://{}:{}@{host}:{port}/{}?authSource=admin{options}",
            seat.name, seat.password, seat.name
        )
    }
}

fn postgres_admin(uri: &str) -> Result<PostgresAdmin, Failure> {
    PostgresAdmin::parse(uri).map_err(|error| {
        let error = anyhow::Error::new(error).context("cannot use arena.database.postgres");
        Failure::new(Kind::Configuration, error)
            .hint("write postgres://user:password@host:port/database?sslmode=verify-full")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arena_workshop::DatabaseName;

    #[test]
    fn a_seat_keeps_the_servers_name_and_options_and_has_its_own_user() {
        let remote = RemoteMongodb::parse(
            "mongodb://root:pw@db.example.com:27117/?authSource=admin&tls=true",
        )
        .unwrap();
        let seat = SeatDatabase {
            name: DatabaseName::new("ada").unwrap(),
            password: "secret".to_owned(),
        };
        assert_eq!(
            remote.seat_uri(&seat, remote.name_inside(), MONGODB_PORT),
            "mongodb://ada:secret@db.example.com:27017/ada?authSource=admin&tls=true"
        );
        assert_eq!(
            remote.seat_uri_outside(&seat),
            "mongodb://ada:secret@db.example.com:27117/ada?authSource=admin&tls=true"
        );
    }

    #[test]
    fn what_seats_cannot_reach_is_refused_with_the_reason() {
        for (uri, why) in [
            ("mongodb+srv://root:pw@cluster.example.com/", "srv"),
            ("mongodb://root:pw@a,b,c/", "more than one host"),
            ("mongodb://db.example.com/", "no user"),
            ("http://root:pw@db.example.com/", "mongodb://"),
            ("mongodb://root:pw@db:x/", "port"),
        ] {
            let Err(failure) = RemoteMongodb::parse(uri) else {
                panic!("{uri} was taken")
            };
            assert!(format!("{failure:?}").contains(why), "{uri}: {failure:?}");
        }
    }
}
