//! What a configured MongoDB is, asked of itself: its members, its version, what it can do, and
//! whether its administrator may make users.

use std::collections::BTreeSet;
use std::time::Duration;

use arena_workshop::Capability;
use bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};

use super::RemoteError;
use super::address::{Host, MongodbAddress};

/// A server that is there answers at once; over the sea, within a second.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Roles of `admin` that may make users in every database.
const MAKES_USERS: [&str; 4] = ["root", "userAdmin", "userAdminAnyDatabase", "__system"];
/// A database that nobody has: asked whether its changes can be followed.
const PROBE: &str = "arena_probe";

/// How the servers stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// Members of a replica set of this name.
    ReplicaSet(String),
    /// Routers of a sharded cluster, or something that says so.
    Sharded,
    /// One server alone.
    Standalone,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) members: Vec<Host>,
    pub(super) topology: Topology,
    pub(super) version: String,
    pub(super) capabilities: BTreeSet<Capability>,
}

/// Connects and looks.
pub(super) async fn look(address: &MongodbAddress) -> Result<Looked, RemoteError> {
    let client = client(address).await?;
    let admin = client.database("admin");
    let hello = ask(address, &admin, doc! { "hello": 1 }).await?;
    let topology = topology(&hello);
    let members = members(address, &hello)?;
    let version = ask(address, &admin, doc! { "buildInfo": 1 }).await?;
    let status = doc! { "connectionStatus": 1, "showPrivileges": true };
    let status = ask(address, &admin, status).await?;
    if !makes_users(&status) {
        return Err(RemoteError::NoRight {
            user: address.administrator(),
            is_atlas: address.is_atlas(),
        });
    }
    let mut capabilities = BTreeSet::from([Capability::Mongodb]);
    if topology != Topology::Standalone {
        capabilities.insert(Capability::Transactions);
    }
    if client.database(PROBE).watch().await.is_ok() {
        capabilities.insert(Capability::ChangeStreams);
    }
    if address.is_atlas() {
        capabilities.extend([Capability::AtlasSearch, Capability::Vector]);
    }
    Ok(Looked {
        members,
        topology,
        version: version.get_str("version").unwrap_or("unknown").to_owned(),
        capabilities,
    })
}

/// Returns the members as the set names them now.
pub(super) async fn members_now(address: &MongodbAddress) -> Result<Vec<Host>, RemoteError> {
    let client = client(address).await?;
    let hello = ask(address, &client.database("admin"), doc! { "hello": 1 }).await?;
    members(address, &hello)
}

async fn client(address: &MongodbAddress) -> Result<Client, RemoteError> {
    let failed = |error| unreachable(address, error);
    let mut options = ClientOptions::parse(address.uri()).await.map_err(failed)?;
    options.app_name = Some("arena-control".to_owned());
    options.server_selection_timeout = Some(ANSWER_WITHIN);
    options.connect_timeout = Some(ANSWER_WITHIN);
    Client::with_options(options).map_err(failed)
}

async fn ask(
    address: &MongodbAddress,
    admin: &Database,
    command: Document,
) -> Result<Document, RemoteError> {
    admin
        .run_command(command)
        .await
        .map_err(|error| unreachable(address, error))
}

fn unreachable(address: &MongodbAddress, error: Error) -> RemoteError {
    let source = Box::new(error);
    match *source.kind {
        ErrorKind::Authentication { .. } => RemoteError::LogIn {
            user: address.administrator(),
            source,
        },
        _ => RemoteError::Unreachable {
            hosts: address
                .hosts
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            source,
        },
    }
}

fn topology(hello: &Document) -> Topology {
    match (hello.get_str("setName"), hello.get_str("msg")) {
        (Ok(name), _) => Topology::ReplicaSet(name.to_owned()),
        (Err(_), Ok("isdbgrid")) => Topology::Sharded,
        _ => Topology::Standalone,
    }
}

/// Returns the hosts that clients will connect to: those of the URI, and those that a replica set
/// names itself by unless the URI asks for one server only.
fn members(address: &MongodbAddress, hello: &Document) -> Result<Vec<Host>, RemoteError> {
    let mut members = address.hosts.clone();
    if address.is_direct() {
        return Ok(members);
    }
    let named = ["hosts", "passives"]
        .into_iter()
        .filter_map(|key| hello.get_array(key).ok())
        .flatten();
    for name in named.filter_map(|name| name.as_str()) {
        let host = Host::parse(name).map_err(|_| RemoteError::Member(name.to_owned()))?;
        if !members.contains(&host) {
            members.push(host);
        }
    }
    // A seat's loopback can take any name, but of addresses only those of a loopback.
    let is_beyond = |host: &&Host| host.address().is_some_and(|address| !address.is_loopback());
    match members.iter().find(is_beyond) {
        Some(host) if members.len() > 1 || hello.contains_key("setName") => {
            Err(RemoteError::Member(host.to_string()))
        }
        _ => Ok(members),
    }
}

/// Returns whether the user may make users in `admin`. A server that shows no rights is believed
/// to give them; making the first user will tell.
fn makes_users(status: &Document) -> bool {
    let Ok(info) = status.get_document("authInfo") else {
        return true;
    };
    let list = |key: &str| {
        let list = info.get_array(key).into_iter().flatten();
        list.filter_map(|entry| entry.as_document())
    };
    let has_role = list("authenticatedUserRoles").any(|role| {
        role.get_str("db").is_ok_and(|database| database == "admin")
            && role
                .get_str("role")
                .is_ok_and(|role| MAKES_USERS.contains(&role))
    });
    let mut privileges = list("authenticatedUserPrivileges").peekable();
    has_role || privileges.peek().is_none() || privileges.any(allows_users)
}

fn allows_users(privilege: &Document) -> bool {
    let is_about_admin = privilege.get_document("resource").is_ok_and(|resource| {
        let database = resource.get_str("db");
        resource.get_bool("anyResource").unwrap_or(false) || matches!(database, Ok("" | "admin"))
    });
    let actions = privilege.get_array("actions").into_iter().flatten();
    is_about_admin
        && actions
            .filter_map(|action| action.as_str())
            .any(|action| action == "createUser")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(uri: &str) -> MongodbAddress {
        MongodbAddress::parse(uri).unwrap()
    }

    fn names(members: &[Host]) -> Vec<String> {
        members.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_set_adds_the_members_that_the_uri_leaves_out() {
        let hello = doc! { "setName": "rs0", "hosts": ["a.example:27017", "B.example:27018"], "passives": ["c.example"] };
        let found = members(&address("mongodb://u:p@a.example/"), &hello).unwrap();
        assert_eq!(
            names(&found),
            ["a.example:27017", "b.example:27018", "c.example:27017"]
        );
        let direct = address("mongodb://u:p@a.example/?directConnection=true");
        assert_eq!(
            names(&members(&direct, &hello).unwrap()),
            ["a.example:27017"]
        );
    }

    #[test]
    fn a_set_of_addresses_is_refused_and_one_server_is_not() {
        let set = doc! { "setName": "rs0", "hosts": ["10.0.0.5:27017"] };
        let error = members(&address("mongodb://u:p@a.example/"), &set).unwrap_err();
        assert!(matches!(error, RemoteError::Member(member) if member == "10.0.0.5:27017"));
        let alone = members(&address("mongodb://u:p@10.0.0.5/"), &doc! {}).unwrap();
        assert_eq!(names(&alone), ["10.0.0.5:27017"]);
        let here = doc! { "setName": "rs0", "hosts": ["127.0.0.1:27018"] };
        assert!(members(&address("mongodb://u:p@127.0.0.1:27018/"), &here).is_ok());
    }

    #[test]
    fn who_may_make_users_is_told_from_roles_and_privileges() {
        let status = |roles: Vec<Document>, privileges: Vec<Document>| {
            doc! { "authInfo": { "authenticatedUserRoles": roles, "authenticatedUserPrivileges": privileges } }
        };
        let reads = doc! { "resource": { "db": "", "collection": "" }, "actions": ["find"] };
        let makes = doc! { "resource": { "db": "", "collection": "" }, "actions": ["createUser"] };
        let elsewhere =
            doc! { "resource": { "db": "shop", "collection": "" }, "actions": ["createUser"] };
        let root = doc! { "role": "root", "db": "admin" };
        let atlas = doc! { "role": "atlasAdmin", "db": "admin" };
        assert!(makes_users(&status(vec![root], vec![])));
        assert!(makes_users(&status(vec![], vec![reads.clone(), makes])));
        assert!(
            makes_users(&status(vec![], vec![])),
            "a server that shows no rights"
        );
        assert!(!makes_users(&status(vec![atlas], vec![reads, elsewhere])));
    }
}
