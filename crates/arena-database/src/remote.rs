//! A MongoDB that somebody else runs: [`RemoteMongodb::find`] reads the configured URI, follows
//! `mongodb+srv://`, connects, and returns what seats need to reach every member under its own
//! name. It makes no users; that is the [`crate::Provisioner`]'s.

mod address;
mod members;
mod srv;

use std::collections::BTreeSet;
use std::{fs, io};

use arena_workshop::Capability;
use thiserror::Error;

use crate::{MongodbAdmin, SeatDatabase};

pub use address::{AddressError, Host, MongodbAddress};
pub use members::Topology;
pub use srv::Resolver;

/// Certificates of all authorities of the world take 250 kB.
const AUTHORITIES_BYTES_MAX: usize = 1 << 20;

/// Why a configured MongoDB cannot be used.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The URI itself.
    #[error("cannot use the configured MongoDB URI: {0}")]
    Address(AddressError),
    /// The name of a `mongodb+srv://` URI.
    #[error("cannot find the servers behind {name}")]
    Name {
        /// The name.
        name: String,
        /// What the name service says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An SRV record that leads away from its own domain.
    #[error("{name} leads to {host}, which is not of its domain")]
    ForeignHost {
        /// The name.
        name: String,
        /// Where it leads.
        host: String,
    },
    /// A TXT record that may not be.
    #[error("the TXT record of {name} says what it may not: {text}")]
    Txt {
        /// The name.
        name: String,
        /// The part that is wrong.
        text: String,
    },
    /// Nobody answers.
    #[error("cannot reach MongoDB at {hosts}")]
    Unreachable {
        /// Who was asked.
        hosts: String,
        /// What the driver says.
        #[source]
        source: Box<mongodb::error::Error>,
    },
    /// The administrator's password.
    #[error("cannot log in to MongoDB as {user}")]
    LogIn {
        /// The administrator.
        user: String,
        /// What the driver says.
        #[source]
        source: Box<mongodb::error::Error>,
    },
    /// The administrator may not make users.
    #[error("{user} may not make users on this MongoDB, and every seat needs its own")]
    NoRight {
        /// The administrator.
        user: String,
        /// Whether it is a cluster of Atlas.
        is_atlas: bool,
    },
    /// A member that a seat cannot reach.
    #[error(
        "the replica set calls a member {0}, and a seat cannot reach a server under an address"
    )]
    Member(String),
    /// The file with the authorities.
    #[error("cannot read {path} (tlsCAFile)")]
    Authorities {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl RemoteError {
    /// Returns what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Address(_) => {
                "write mongodb://user:password@host:port,host:port/?options or mongodb+srv://user:password@name/"
            }
            Self::Name { .. } => {
                "is the name right, and does this machine resolve names? `getent hosts NAME` tells"
            }
            Self::ForeignHost { .. } | Self::Txt { .. } => {
                "whoever runs that domain must mend its records; or write the hosts themselves with mongodb://"
            }
            Self::Unreachable { .. } => {
                "is it running, does its network let this machine in (on Atlas: Network Access), and does the URI say tls=true if it wants TLS?"
            }
            Self::LogIn { .. } => {
                "are user and password right (signs such as @ as %40), and is authSource the database that the user is in?"
            }
            Self::NoRight { is_atlas: true, .. } => {
                "Atlas makes users through its Admin API only, which Arena does not speak yet: use a MongoDB of your own \
                 (its user needs the role userAdminAnyDatabase or root), or remove arena.database.mongodb for the built-in database"
            }
            Self::NoRight { .. } => {
                "give it the roles userAdminAnyDatabase, readWriteAnyDatabase and dbAdminAnyDatabase, or root, in the database admin"
            }
            Self::Member(_) => {
                "name members by host names (rs.reconfig), or write one host with directConnection=true"
            }
            Self::Authorities { .. } => {
                "name a file that the user of Arena may read, with one or more certificates (PEM)"
            }
        }
    }
}

/// A configured MongoDB, found.
#[derive(Debug, Clone)]
pub struct RemoteMongodb {
    address: MongodbAddress,
    members: Vec<Host>,
    topology: Topology,
    version: String,
    capabilities: BTreeSet<Capability>,
    authorities: Option<String>,
}

impl RemoteMongodb {
    /// Reads the URI, follows its names, connects and looks. Takes up to some ten seconds.
    ///
    /// # Errors
    /// Whatever keeps seats from using it; [`RemoteError::hint`] says what to do.
    pub async fn find(uri: &str, resolver: Resolver) -> Result<Self, RemoteError> {
        let address = MongodbAddress::parse(uri).map_err(RemoteError::Address)?;
        let authorities = address.authorities().map(|path| read(&path)).transpose()?;
        let address = srv::resolve(address, resolver).await?;
        let looked = members::look(&address).await?;
        Ok(Self {
            address,
            members: looked.members,
            topology: looked.topology,
            version: looked.version,
            capabilities: looked.capabilities,
            authorities,
        })
    }

    /// Returns the server as its administrator reaches it.
    pub fn admin(&self) -> MongodbAdmin {
        MongodbAdmin {
            uri: self.address.uri(),
        }
    }

    /// Returns every server that a client may connect to.
    pub fn members(&self) -> &[Host] {
        &self.members
    }

    /// Asks the set for its members as they are now. Takes up to some ten seconds.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn members_now(&self) -> Result<Vec<Host>, RemoteError> {
        members::members_now(&self.address).await
    }

    /// Returns whether clients stay with the one server of the URI.
    pub fn is_direct(&self) -> bool {
        self.address.is_direct()
    }

    /// Returns how the servers stand together.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Returns the version that the server says it has.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns what exercises can count on.
    pub fn capabilities(&self) -> &BTreeSet<Capability> {
        &self.capabilities
    }

    /// Returns the certificates of the authorities that the URI names, for seats.
    pub fn authorities(&self) -> Option<&str> {
        self.authorities.as_deref()
    }

    /// Returns a seat's URI from this machine.
    pub fn seat_uri_here(&self, seat: &SeatDatabase) -> String {
        let authorities = self.address.authorities();
        self.address
            .seat_uri(seat, &self.address.hosts, authorities.as_deref())
    }

    /// Returns a seat's URI from inside the seat, where the hosts of the URI are called `hosts` and
    /// the authorities lie in `authorities`.
    pub fn seat_uri(
        &self,
        seat: &SeatDatabase,
        inside: impl Fn(&Host) -> Host,
        authorities: &str,
    ) -> String {
        let hosts: Vec<Host> = self.address.hosts.iter().map(inside).collect();
        let authorities = self.authorities.as_ref().map(|_| authorities);
        self.address.seat_uri(seat, &hosts, authorities)
    }
}

fn read(path: &str) -> Result<String, RemoteError> {
    let failed = |source| RemoteError::Authorities {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(failed)?;
    if text.len() > AUTHORITIES_BYTES_MAX {
        return Err(failed(io::Error::other("larger than a megabyte")));
    }
    // A key in the same file is the platform's: seats get certificates only.
    let (mut certificates, mut is_certificate) = (String::new(), false);
    for line in text.lines() {
        is_certificate |= line.starts_with("-----BEGIN CERTIFICATE");
        if is_certificate {
            certificates.push_str(line);
            certificates.push('\n');
        }
        is_certificate &= !line.starts_with("-----END");
    }
    if certificates.is_empty() {
        return Err(failed(io::Error::other("it holds no certificate")));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_beside_the_certificates_never_reaches_a_seat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.pem").display().to_string();
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\ndef\n-----END CERTIFICATE-----\n").unwrap();
        let text = read(&path).unwrap();
        assert_eq!(
            text,
            "-----BEGIN CERTIFICATE-----\ndef\n-----END CERTIFICATE-----\n"
        );
        fs::write(&path, "nothing").unwrap();
        assert!(read(&path).is_err());
    }
}
