//! The plan: everything that shall run, with nothing left to choose. [`plan`]
//! is pure: the same workshop and target give the same plan, byte for byte.
//! It names secrets and never holds one. [`SeatSettings`] is what a runtime
//! hands to a seat's agent.

mod connection;
mod difference;
mod make;
mod offer;
mod ports;
mod seat;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::config::Outbound;
use crate::{Capability, DataSetName, DatabaseName, EventId, Exercise, SeatId, ServiceName};

pub use connection::PostgresConnection;
pub use difference::{Change, Difference, difference};
pub use make::plan;
pub use offer::choosing_table;
pub use ports::PORTS;
pub use seat::MissingSecret;

/// Where a plan shall run, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Port of the gateway on loopback.
    pub port: u16,
    /// The workshop's content on this machine.
    pub content: Content,
    /// Where MongoDB comes from.
    pub mongodb: MongodbSource,
    /// What a configured MongoDB was seen to be capable of; `None` where nobody looked.
    pub mongodb_seen: Option<BTreeSet<Capability>>,
    /// Where PostgreSQL comes from.
    pub postgres: PostgresSource,
    /// How seats are separated.
    pub isolation: Isolation,
    /// First of the ports of a seat that shares the machine's loopback ([`Isolation::None`]); it
    /// has [`PORTS`] of them.
    pub first_port: u16,
}

/// Where the workshop's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A folder on this machine (absolute path).
    Folder(String),
    /// A repository to clone.
    Repository {
        /// Its address, without a password.
        url: String,
        /// Branch, else the repository's default.
        branch: Option<String>,
        /// The version that was fetched, where it has been.
        version: Option<String>,
    },
}

/// Where a MongoDB comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MongodbSource {
    /// DocumentDB behind `arena-mongo`.
    BuiltIn,
    /// A `mongod` of this machine that we run.
    Mongod,
    /// The image `mongodb/mongodb-atlas-local` in Docker.
    AtlasLocal,
    /// A configured server; the URI itself is the secret `mongodb-uri`.
    Uri,
}

/// Where a PostgreSQL comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostgresSource {
    /// An own cluster run from the engine's tree.
    BuiltIn,
    /// A configured server; the URI itself is the secret `postgres-uri`.
    Uri,
}

/// How seats are separated from each other and from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Own namespaces and a host uid per seat.
    OwnUser,
    /// Own namespaces, one host uid for all: kernel limits are shared.
    SharedUser,
    /// None: programs of the one seat run as the user that Arena runs as, on its own machine.
    None,
}

/// The name of a secret. Values live in the runtime's secret store only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretName(pub String);

impl SecretName {
    /// Returns the name of a seat's database password: the same for MongoDB and PostgreSQL. Its
    /// value must be letters and digits only, for it stands inside URIs.
    pub fn seat_database(seat: &SeatId) -> Self {
        Self(format!("seat/{seat}/database"))
    }

    /// Returns the name of a seat's URI on a configured MongoDB, which only the provisioner knows.
    pub fn seat_mongodb_uri(seat: &SeatId) -> Self {
        Self(format!("seat/{seat}/mongodb-uri"))
    }

    /// Returns how an environment's value refers to the secret.
    pub fn placeholder(&self) -> String {
        format!("${{secret:{}}}", self.0)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that shall run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The event's id; names its state folder.
    pub event: EventId,
    /// Shown to people.
    pub title: String,
    /// Where browsers find it.
    pub address: Address,
    /// How seats are separated.
    pub isolation: Isolation,
    /// The prepared workshop files that seats start from.
    pub template: TemplatePlan,
    /// Platform services in order of start.
    pub services: Vec<ServicePlan>,
    /// Workshop databases.
    pub databases: DatabasesPlan,
    /// Seats in order.
    pub seats: Vec<SeatPlan>,
    /// Which host serves what.
    pub routes: Vec<RoutePlan>,
    /// What seats may reach outside. The template may always reach package registries.
    pub outbound: Outbound,
    /// Memory in MiB that all programs of a seat may use together.
    pub seat_memory_mib: u32,
    /// Minutes after which an empty room's editors are stopped.
    pub editor_idle_minutes: u32,
    /// Files inside the work folder whose saving is signalled: those that exercises name.
    pub watched: Vec<String>,
    /// File inside the work folder that the editor opens first.
    pub first_file: Option<String>,
    /// Names of all secrets that the plan refers to.
    pub secrets: BTreeSet<SecretName>,
    /// What nobody configured and we chose, `key → value`, for showing.
    pub defaults: BTreeMap<String, String>,
}

/// Scheme, domain and port under which browsers find the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// `http` on one machine without TLS.
    pub scheme: String,
    /// `arena.localhost` on one machine.
    pub domain: String,
    /// Port of the gateway.
    pub port: u16,
}

impl Address {
    /// Returns the origin of a host, such as `http://ada.arena.localhost:8080`; no slash at the end.
    pub fn origin(&self, host: &str) -> String {
        format!("{}://{host}:{}", self.scheme, self.port)
    }
}

/// How the template is made from the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplatePlan {
    /// Where the files come from.
    pub content: Content,
    /// Name of the work folder under `/home/workspace`.
    pub repository: String,
    /// Paths that a seat never gets, such as `arena`, `utils`, `.git`.
    pub removed: Vec<String>,
    /// Files laid over the workshop: needed answers, `from → to` inside the content.
    pub overlays: BTreeMap<String, String>,
    /// Major version of Node for installing, building and running.
    pub node_version: String,
    /// The seat's apps, back end first.
    pub apps: Vec<AppPlan>,
}

/// An app of the workshop that runs or is built in each seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPlan {
    /// What a route calls it.
    pub kind: AppKind,
    /// Folder inside the work folder; empty for the work folder itself.
    pub folder: String,
    /// Commands that prepare it in the template, such as `npm ci`; each a program with arguments.
    pub prepare: Vec<Vec<String>>,
    /// Command that starts it; `None` for a static front end.
    pub start: Option<Vec<String>>,
    /// Port on the seat's loopback when it is started.
    pub port: Option<u16>,
    /// For a static front end: folder with the built files, tried in order, such as `out`, `dist`.
    pub static_folders: Vec<String>,
    /// Lines for the folder's `.env` file. `${NAME}` stands for the seat's variable `NAME`;
    /// [`Plan::seat_settings`] fills it in.
    pub env_file: BTreeMap<String, String>,
}

impl AppKind {
    /// Every kind, in the order in which apps are prepared and started.
    pub const ALL: [Self; 4] = [Self::Backend, Self::Frontend, Self::React, Self::Postgres];

    /// Returns the name as it is written in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Frontend => "frontend",
            Self::React => "react",
            Self::Postgres => "postgres",
        }
    }
}

/// The apps that routes know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// `/backend/`, port 5000, terminal named *server*.
    Backend,
    /// `/app/`, static files.
    Frontend,
    /// `/react/`, port 3001.
    React,
    /// `/postgres/`, port 5001.
    Postgres,
}

/// A platform service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Such as `gateway`.
    pub name: ServiceName,
    /// Which code it is.
    pub kind: ServiceKind,
    /// Services that must be ready before.
    pub after: Vec<ServiceName>,
}

/// The kinds of platform services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceKind {
    /// DocumentDB's PostgreSQL, a child process.
    Engine,
    /// `arena-mongo`, a task.
    Mongo,
    /// A `mongod` or its container, a child process.
    Mongod,
    /// The PostgreSQL cluster for exercises, a child process.
    Postgres,
    /// The filtered way out of seats, a task.
    Outbound,
    /// Provisioner, grader and orders, a task.
    Control,
    /// Pages and API, a task.
    Portal,
    /// Instructions, a task.
    Instructions,
    /// The only door, a task.
    Gateway,
}

/// Workshop databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabasesPlan {
    /// MongoDB, where the scenario asks for one.
    pub mongodb: Option<MongodbPlan>,
    /// PostgreSQL, where the scenario asks for one.
    pub postgres: Option<PostgresPlan>,
    /// A data set that is made and loaded besides the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<DataSetPlan>,
    /// What exercises can count on.
    pub capabilities: BTreeSet<Capability>,
}

impl DatabasesPlan {
    /// Returns what an exercise needs and these databases do not have: it is greyed out.
    pub fn missing(&self, exercise: &Exercise) -> BTreeSet<Capability> {
        exercise
            .needs
            .difference(&self.capabilities)
            .copied()
            .collect()
    }
}

/// A data set that Arena makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSetPlan {
    /// Which.
    pub name: DataSetName,
    /// The same seed gives the same bytes.
    pub seed: u64,
    /// Documents of its collection; `None`: as many as it usually has.
    pub documents: Option<u32>,
}

/// MongoDB for all seats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MongodbPlan {
    /// Where it comes from.
    pub source: MongodbSource,
    /// Seed files inside the content, in order: `arena/data/{collection}.ndjson` and the like.
    pub data: Vec<String>,
    /// Whether declared indexes are made in every seat (`mongodb.create_indexes`).
    pub create_indexes: bool,
    /// How much each seat may take of it; only the built-in database asks.
    pub quota: QuotaPlan,
}

/// How much a seat may take of the built-in database (`arena.quota`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaPlan {
    /// Bytes on disk, indexes included.
    pub bytes: u64,
    /// Documents.
    pub documents: u64,
    /// Collections and views.
    pub collections: u64,
    /// Indexes.
    pub indexes: u64,
    /// Open connections.
    pub connections: u32,
    /// Longest statement, in seconds.
    pub statement_seconds: u32,
    /// Commands in a second.
    pub commands_per_second: u32,
}

/// PostgreSQL for all seats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresPlan {
    /// Where it comes from.
    pub source: PostgresSource,
    /// Seed files inside the content, in order: `arena/data/*.sql` and `*.dump`.
    pub data: Vec<String>,
    /// Extensions of every seat's database, besides `vector`.
    pub extensions: Vec<String>,
    /// Bytes that a seat's database may take on disk beyond an empty one (`arena.quota.megabytes`).
    pub quota_bytes: u64,
}

/// A seat, everything about it decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatPlan {
    /// The seat.
    pub id: SeatId,
    /// Name of the person on the list, else the id.
    pub display_name: String,
    /// Whether a row of the list made it (else it is a spare seat).
    pub listed: bool,
    /// `{seat}.{domain}`.
    pub host: String,
    /// `{seat}--code.{domain}`: the editor's own origin.
    pub editor_host: String,
    /// `{seat}.{generation}.invalid`: the authority towards the agent, never the client's Host.
    pub authority: String,
    /// Database and user name in MongoDB and PostgreSQL.
    pub database: DatabaseName,
    /// Environment of editor, terminals and apps. `${secret:NAME}` stands for a secret's value.
    pub environment: BTreeMap<String, String>,
    /// Sockets brought into the seat.
    pub forwards: Vec<Forward>,
}

/// A service reachable inside a seat: the agent listens on `address` and `port` of the seat's
/// loopback and forwards to `/run/svc/{socket}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Forward {
    /// File name under `/run/svc`: `mongodb.sock`, `postgres.sock`, `outbound.sock`, `llm.sock`.
    pub socket: String,
    /// Address on the seat's loopback: 127.0.0.1 for the platform's own services.
    #[serde(default = "loopback", skip_serializing_if = "is_loopback")]
    pub address: IpAddr,
    /// TCP port there.
    pub port: u16,
}

fn loopback() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

fn is_loopback(address: &IpAddr) -> bool {
    *address == loopback()
}

/// Servers of somebody else that a seat reaches under their own names. They may change while the
/// seat lives: the agent reads [`Ways::FILE`] beside the sockets, and the names are its hosts file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ways {
    /// Names, and where on the seat's loopback they lead.
    pub names: BTreeMap<String, IpAddr>,
    /// Addresses and ports, and the sockets behind them.
    pub forwards: Vec<Forward>,
}

impl Ways {
    /// Name of the file.
    pub const FILE: &str = "ways.json";
}

/// A host and what it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePlan {
    /// Full host name without port.
    pub host: String,
    /// What answers there.
    pub surface: Surface,
}

/// What a host serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// Portal pages and API.
    Portal,
    /// Instructions.
    Instructions,
    /// The seat's apps: `/app/`, `/backend/`, `/react/`, `/postgres/`; `/` leads to the editor.
    SeatApps(SeatId),
    /// The seat's editor.
    SeatEditor(SeatId),
}

/// What a runtime hands to a seat's agent, as JSON in a file that only this seat can read.
/// Holds the seat's own credentials and nobody else's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatSettings {
    /// The seat.
    pub seat: SeatId,
    /// Shown in the editor's title.
    pub display_name: String,
    /// `/home/workspace`.
    pub home: String,
    /// `/home/workspace/{repository}`.
    pub work: String,
    /// Apps to start or serve, from [`TemplatePlan::apps`].
    pub apps: Vec<AppPlan>,
    /// Environment of editor, terminals and apps, secrets filled in.
    pub environment: BTreeMap<String, String>,
    /// Program and arguments that start the editor, without address and folder.
    pub editor: Vec<String>,
    /// Environment of the editor only (not of its terminals), such as `NODE_OPTIONS`.
    pub editor_environment: BTreeMap<String, String>,
    /// Services to bring to the seat's loopback.
    pub forwards: Vec<Forward>,
    /// Files inside the work folder whose saving is signalled.
    pub watched: Vec<String>,
    /// File inside the work folder to open first.
    pub first_file: Option<String>,
}

impl fmt::Debug for SeatSettings {
    /// Shows the seat only: the environment holds credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeatSettings")
            .field("seat", &self.seat)
            .finish_non_exhaustive()
    }
}
