//! Databases that somebody else runs, and how a seat reaches them although its
//! network is its own. Every member of a replica set gets an address of its own
//! on the seat's loopback, its real name leads there, and a forwarder carries the
//! bytes: so TLS finds the name that it expects, and a driver finds the members
//! that the set tells it of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arena_database::remote::{Host, RemoteError, RemoteMongodb, Resolver, Topology};
use arena_database::{PostgresAdmin, SeatDatabase};
use arena_local::forward::{self, ForwardLimits, PlainSettings, Service};
use arena_local::seat::Seats;
use arena_workshop::plan::{Forward, Ways};
use arena_workshop::{Plan, SeatId, Workshop};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Kind};
use crate::platform::places::{self, Places};

/// Where a seat finds the authorities that sign a configured server's certificate.
const AUTHORITIES: &str = "/run/svc/mongodb-ca.pem";
/// How often a replica set is asked for its members.
const MEMBERS_LOOK: Duration = Duration::from_secs(30);
/// Addresses of a seat's loopback from 127.0.0.2 on; no replica set has more than fifty members.
const MEMBERS_MAX: usize = 200;
/// Seats that wait to be led to the members.
const NEWCOMERS_MAX: usize = 64;

/// Servers that the config names.
#[derive(Clone, Default)]
pub(crate) struct Remote {
    /// MongoDB.
    pub(crate) mongodb: Option<RemoteMongodb>,
    /// PostgreSQL.
    pub(crate) postgres: Option<PostgresAdmin>,
}

impl Remote {
    /// Finds the servers that the config names: connects and looks, for up to some ten seconds.
    ///
    /// # Errors
    /// Exit code 2 for a URI that cannot be read, 3 for a server that cannot be used; with what to do.
    pub(crate) async fn of(workshop: &Workshop) -> Result<Self, Failure> {
        let configured = &workshop.config.arena.database;
        let wanted = &workshop.config.scenario.database;
        let mongodb = match configured.mongodb_uri().filter(|_| wanted.mongodb) {
            Some(uri) => Some(find(uri.reveal()).await?),
            None => None,
        };
        let postgres = configured
            .postgres
            .as_ref()
            .filter(|_| wanted.has_postgres())
            .map(|uri| postgres_admin(uri.reveal()))
            .transpose()?;
        Ok(Self { mongodb, postgres })
    }

    /// Returns the URI by which a seat, from its inside, reaches the configured MongoDB.
    pub(crate) fn seat_uri(&self, own: &SeatDatabase) -> Option<String> {
        let mongodb = self.mongodb.as_ref()?;
        let inside = Inside::of(mongodb);
        Some(mongodb.seat_uri(own, |host| inside.name(host), AUTHORITIES))
    }

    /// Returns what every seat is led to when it starts.
    pub(crate) fn ways(&self) -> Ways {
        self.mongodb
            .as_ref()
            .map(|mongodb| Inside::of(mongodb).ways())
            .unwrap_or_default()
    }
}

/// Connects to a configured MongoDB and looks what it is.
///
/// # Errors
/// As [`Remote::of`].
pub(crate) async fn find(uri: &str) -> Result<RemoteMongodb, Failure> {
    RemoteMongodb::find(uri, Resolver::System)
        .await
        .map_err(|error| {
            let kind = match error {
                RemoteError::Address(_) => Kind::Configuration,
                _ => Kind::Environment,
            };
            let hint = error.hint();
            Failure::new(kind, error).hint(hint)
        })
}

/// Returns how a found server is called in lists.
pub(crate) fn described(mongodb: &RemoteMongodb) -> String {
    let how = match mongodb.topology() {
        Topology::ReplicaSet(name) => format!("replica set {name} of {}", mongodb.members().len()),
        Topology::Sharded => "sharded cluster".to_owned(),
        Topology::Standalone => "one server".to_owned(),
    };
    format!("configured MongoDB {} ({how})", mongodb.version())
}

/// Where members are on a seat's loopback. Once given, an address stays with its name.
#[derive(Debug, Clone, Default)]
struct Inside {
    members: Vec<Host>,
    addresses: BTreeMap<String, IpAddr>,
}

impl Inside {
    fn of(mongodb: &RemoteMongodb) -> Self {
        let mut inside = Self::default();
        inside.set(mongodb.members());
        inside
    }

    /// Takes over the members; returns whether they are others than before.
    fn set(&mut self, members: &[Host]) -> bool {
        let mut members = members[..members.len().min(MEMBERS_MAX)].to_vec();
        members.sort();
        let is_changed = members != self.members;
        for host in &members {
            if !self.addresses.contains_key(&host.name) {
                let address = self.free_address(host);
                self.addresses.insert(host.name.clone(), address);
            }
        }
        self.members = members;
        is_changed
    }

    /// A loopback's address is the seat's own; everything else gets one of 127.0.0.2 and up.
    fn free_address(&self, host: &Host) -> IpAddr {
        match host.address() {
            Some(address) if address.is_loopback() => return address,
            None if host.name == "localhost" => return Ipv4Addr::LOCALHOST.into(),
            _ => {}
        }
        let taken: BTreeSet<&IpAddr> = self.addresses.values().collect();
        (2..=u8::MAX)
            .map(|last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last)))
            .find(|address| !taken.contains(address))
            .unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    /// Returns how a client in the seat calls a host: by its name, or by the address it has there.
    fn name(&self, host: &Host) -> Host {
        let name = match (host.address(), self.addresses.get(&host.name)) {
            (Some(_), Some(inside)) => inside.to_string(),
            _ => host.name.clone(),
        };
        Host {
            name,
            port: host.port,
        }
    }

    fn ways(&self) -> Ways {
        let named = |(name, _): &(&String, &IpAddr)| {
            name.parse::<IpAddr>().is_err() && *name != "localhost"
        };
        let names = self.addresses.iter().filter(named);
        let forwards = self.members.iter().filter_map(|host| {
            Some(Forward {
                socket: socket(host),
                address: *self.addresses.get(&host.name)?,
                port: host.port,
            })
        });
        Ways {
            names: names
                .map(|(name, address)| (name.clone(), *address))
                .collect(),
            forwards: forwards.collect(),
        }
    }
}

/// A member's socket among a seat's: short, whatever the member is called.
fn socket(host: &Host) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(host.to_string().as_bytes());
    let hex: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("mongodb-{hex}.sock")
}

/// Every seat's ways to a configured MongoDB, and who its members are.
pub(crate) struct MemberWays {
    mongodb: RemoteMongodb,
    inside: Inside,
    places: Places,
    seats: Vec<SeatId>,
    shutdown: CancellationToken,
    /// What ends each member's ways.
    ends: BTreeMap<Host, CancellationToken>,
    serving: JoinSet<anyhow::Result<()>>,
    newcomers: (mpsc::Sender<SeatId>, mpsc::Receiver<SeatId>),
}

impl MemberWays {
    /// Opens a way from every seat to every member.
    ///
    /// # Errors
    /// When a socket cannot be bound.
    pub(crate) fn open(
        mongodb: &RemoteMongodb,
        places: &Places,
        plan: &Plan,
        shutdown: CancellationToken,
    ) -> Result<Self, Failure> {
        let mut ways = Self {
            mongodb: mongodb.clone(),
            inside: Inside::of(mongodb),
            places: places.clone(),
            seats: plan.seats.iter().map(|seat| seat.id.clone()).collect(),
            shutdown,
            ends: BTreeMap::new(),
            serving: JoinSet::new(),
            newcomers: mpsc::channel(NEWCOMERS_MAX),
        };
        ways.serve_members()?;
        for seat in &ways.seats {
            ways.trust(seat)?;
        }
        Ok(ways)
    }

    /// Where further seats are led from while the event runs.
    pub(crate) fn newcomers(&self) -> mpsc::Sender<SeatId> {
        self.newcomers.0.clone()
    }

    /// Gives a seat the authorities that the members' certificates are signed by.
    fn trust(&self, seat: &SeatId) -> Result<(), Failure> {
        if let Some(authorities) = self.mongodb.authorities() {
            let path = self.places.service(seat, "mongodb-ca.pem")?;
            places::write_for_seat(&path, authorities)?;
        }
        Ok(())
    }

    /// Leads one more seat to all members.
    fn lead_newcomer(&mut self, seat: SeatId) -> Result<(), Failure> {
        self.trust(&seat)?;
        for (host, end) in self.ends.clone() {
            self.serve(&seat, &host, end)?;
        }
        self.seats.push(seat);
        Ok(())
    }

    fn serve(&mut self, seat: &SeatId, host: &Host, end: CancellationToken) -> Result<(), Failure> {
        let path = self.places.service(seat, &socket(host))?;
        let listener = places::bind_for_seat(&path)?;
        let settings = PlainSettings {
            seat: seat.clone(),
            service: Service::Tcp {
                host: host.name.clone(),
                port: host.port,
            },
            limits: ForwardLimits::default(),
        };
        let served = forward::serve_plain(settings, listener, end);
        self.serving.spawn(async move { Ok(served.await?) });
        Ok(())
    }

    fn serve_members(&mut self) -> Result<(), Failure> {
        let members = self.inside.members.clone();
        self.ends.retain(|host, end| {
            let stays = members.contains(host);
            if !stays {
                end.cancel();
            }
            stays
        });
        for host in members {
            if self.ends.contains_key(&host) {
                continue;
            }
            let end = self.shutdown.child_token();
            for seat in self.seats.clone() {
                self.serve(&seat, &host, end.clone())?;
            }
            self.ends.insert(host, end);
        }
        Ok(())
    }

    /// Follows the members until shutdown, leading the seats to new ones and away from old ones.
    ///
    /// # Errors
    /// When a way breaks: a bug of ours.
    pub(crate) async fn follow(mut self, seats: Arc<Seats>) -> anyhow::Result<()> {
        loop {
            // A dropped look is begun anew; a way that ended by itself is an error below.
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                Some(ended) = self.serving.join_next() => ended??,
                Some(seat) = self.newcomers.1.recv() => {
                    if let Err(failure) = self.lead_newcomer(seat) {
                        tracing::warn!(error = ?failure, "cannot lead a new seat to the configured MongoDB");
                    }
                }
                () = tokio::time::sleep(MEMBERS_LOOK), if !self.mongodb.is_direct() => self.look(&seats).await,
            }
        }
        while let Some(ended) = self.serving.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn look(&mut self, seats: &Seats) {
        let members = match self.mongodb.members_now().await {
            Ok(members) => members,
            Err(error) => {
                tracing::warn!(error = %error, "cannot ask the configured MongoDB for its members");
                return;
            }
        };
        if !self.inside.set(&members) {
            return;
        }
        tracing::info!(
            "the configured MongoDB has other members now: {}",
            listed(&members)
        );
        if let Err(failure) = self.serve_members() {
            tracing::warn!(error = ?failure, "cannot lead seats to a new member");
        }
        let ways = self.inside.ways();
        for seat in &self.seats {
            if let Err(error) = seats.lead(seat, &ways) {
                tracing::warn!(seat.id = %seat, error = %error, "cannot lead a seat to a new member");
            }
        }
    }
}

fn listed(members: &[Host]) -> String {
    let members: Vec<String> = members.iter().map(ToString::to_string).collect();
    members.join(", ")
}

/// Reads the URI of a configured PostgreSQL.
///
/// # Errors
/// Exit code 2 when it cannot be understood.
pub(crate) fn postgres_admin(uri: &str) -> Result<PostgresAdmin, Failure> {
    PostgresAdmin::parse(uri).map_err(|error| {
        let error = anyhow::Error::new(error).context("cannot use arena.database.postgres");
        Failure::new(Kind::Configuration, error)
            .hint("write postgres://user:password@host:port/database?sslmode=verify-full")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Vec<Host> {
        names
            .iter()
            .map(|name| Host::parse(name).unwrap())
            .collect()
    }

    fn addresses(inside: &Inside) -> Vec<String> {
        let ways = inside.ways();
        let mut all: Vec<String> = ways
            .forwards
            .iter()
            .map(|way| format!("{}:{}", way.address, way.port))
            .collect();
        all.extend(
            ways.names
                .iter()
                .map(|(name, address)| format!("{name}={address}")),
        );
        all
    }

    #[test]
    fn every_member_has_an_address_of_its_own_and_keeps_it() {
        let mut inside = Inside::default();
        assert!(inside.set(&hosts(&["b.example", "a.example", "c.example:27018"])));
        assert_eq!(
            addresses(&inside),
            [
                "127.0.0.2:27017",
                "127.0.0.3:27017",
                "127.0.0.4:27018",
                "a.example=127.0.0.2",
                "b.example=127.0.0.3",
                "c.example=127.0.0.4"
            ]
        );
        assert!(inside.set(&hosts(&["c.example:27018", "d.example"])));
        assert!(!inside.set(&hosts(&["d.example", "c.example:27018"])));
        assert_eq!(
            addresses(&inside)[..2],
            ["127.0.0.4:27018", "127.0.0.5:27017"]
        );
    }

    #[test]
    fn members_on_this_machine_keep_loopback_and_port() {
        let mut inside = Inside::default();
        inside.set(&hosts(&[
            "localhost:27101",
            "127.0.0.1:27102",
            "10.0.0.5:27103",
        ]));
        assert_eq!(
            addresses(&inside),
            ["127.0.0.2:27103", "127.0.0.1:27102", "127.0.0.1:27101"]
        );
        let beyond = Host::parse("10.0.0.5:27103").unwrap();
        assert_eq!(inside.name(&beyond).to_string(), "127.0.0.2:27103");
    }
}
