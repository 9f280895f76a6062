//! `config.yaml`: the structs mirror the file and nothing else.
//!
//! The keys outside `arena:` are those of the system that Arena replaces,
//! accepted unchanged, longer and shorter forms alike; what only matters in a
//! cloud is kept and named in a note. Begin at [`parse`]; rules that a schema
//! cannot say are in `validate`, the two keys with two forms in `forms`.

mod forms;
mod validate;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::scoring::Scoring;
use crate::source::{Problems, SourceFile};
use crate::yaml;

pub use forms::{MongodbChoice, Outbound};
pub(crate) use validate::stays_inside;

/// The file, checked, and the defaults that filled its gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedConfig {
    /// The values.
    pub config: Config,
    /// What nobody configured and we chose, `key → value`, for showing.
    pub defaults: BTreeMap<String, String>,
}

/// Reads `config.yaml`. Every mistake, and every key that only matters in a cloud (as a note), is
/// in `problems`; `None` when there was an error.
pub fn parse(file: &SourceFile, problems: &mut Problems) -> Option<ParsedConfig> {
    let mut found = Problems::default();
    let node = yaml::parse(file, &mut found);
    let config = node
        .as_ref()
        .and_then(|node| yaml::read::<Config>(file, node, &mut found));
    if let Some(node) = &node {
        validate::check(file, node, config.as_ref(), &mut found);
    }
    let is_clean = !found.has_errors();
    problems.append(found);
    let (config, node) = config.zip(node).filter(|_| is_clean)?;
    let defaults = validate::defaults(&config, &node);
    Some(ParsedConfig { config, defaults })
}

/// Returns the JSON schema of `config.yaml`, for editors.
pub fn schema() -> Json {
    yaml::schema::<Config>()
}

/// Returns the instant that a text means: ISO 8601 with `Z` or an offset.
pub fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A password or key. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the secret itself. Never log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The configuration of an event.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Arena: config.yaml")]
pub struct Config {
    /// Whose event it is.
    pub customer: Customer,
    /// MongoDB: spare seats, indexes, and the Atlas project of a cloud.
    #[serde(default)]
    pub mongodb: Mongodb,
    /// AWS account. Matters in a cloud only.
    #[serde(default)]
    pub aws: Aws,
    /// Domain of the event. Matters in a cloud only.
    #[serde(default)]
    pub domain: Domain,
    /// What is taught and with what.
    #[serde(default)]
    pub scenario: Scenario,
    /// Arena's own settings.
    #[serde(default)]
    pub arena: Arena,
}

/// Whose event it is.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// Name of the customer or event. It names everything: state folder, cluster, domain.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
}

/// MongoDB: spare seats, indexes, and the Atlas project of a cloud.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mongodb {
    /// Public part of the Atlas API key. Matters in a cloud only.
    pub public_key: Option<Secret>,
    /// Private part of the Atlas API key. Matters in a cloud only.
    pub private_key: Option<Secret>,
    /// Name of the Atlas project. Matters in a cloud only.
    #[schemars(length(min = 1))]
    pub project_name: Option<String>,
    /// Name of the Atlas cluster; spare seats are named after it.
    #[schemars(length(min = 1, max = 40))]
    pub cluster_name: Option<String>,
    /// Atlas region such as `US_EAST_2`. Matters in a cloud only.
    pub cluster_region: Option<String>,
    /// Size of the Atlas cluster, `M10` to `M300` or `R40` to `R700`. Matters in a cloud only.
    pub instance_size: Option<String>,
    /// Spare seats beyond the list of participants.
    #[schemars(range(max = 10_000))]
    pub additional_users_count: u32,
    /// Number of the first spare seat.
    #[schemars(range(max = 1_000_000))]
    pub user_start_index: u32,
    /// Whether the workshop's indexes are made in every seat's database.
    pub create_indexes: bool,
    /// Whether the Atlas project is this event's own. Matters in a cloud only.
    pub dedicated_project: Option<bool>,
    /// Password of the Atlas database administrator. Matters in a cloud only.
    pub database_admin_password: Option<Secret>,
    /// One password for all participants. Accepted and unused: Arena makes one for each seat.
    pub customer_user_password: Option<Secret>,
}

impl Default for Mongodb {
    fn default() -> Self {
        Self {
            public_key: None,
            private_key: None,
            project_name: None,
            cluster_name: None,
            cluster_region: None,
            instance_size: None,
            additional_users_count: 5,
            user_start_index: 0,
            create_indexes: false,
            dedicated_project: None,
            database_admin_password: None,
            customer_user_password: None,
        }
    }
}

/// AWS account. Matters in a cloud only.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    /// Region such as `us-east-2`.
    pub region: Option<String>,
    /// Profile of the AWS command line.
    #[schemars(length(min = 1))]
    pub profile: Option<String>,
}

/// Domain of the event. Matters in a cloud only.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Domain {
    /// E-mail address of the certificate account.
    #[schemars(extend("format" = "email"))]
    pub email: Option<String>,
}

/// What is taught and with what.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Version of the scenario, free text.
    #[schemars(length(min = 1))]
    pub version: Option<String>,
    /// Repository with the workshop's content. Without it, the folder of this file is the workshop.
    #[schemars(length(min = 1))]
    pub repository: Option<String>,
    /// Branch of the repository, else its default.
    #[schemars(length(min = 1))]
    pub branch: Option<String>,
    /// The portal.
    pub portal: PortalKeys,
    /// Which databases each seat gets.
    pub database: DatabaseKeys,
    /// The language model.
    pub llm: Llm,
    /// Folder of the front end in the repository, such as `app`.
    #[schemars(length(min = 1))]
    pub frontend: Option<String>,
    /// Folder of the back end in the repository, such as `server`.
    #[schemars(length(min = 1))]
    pub backend: Option<String>,
    /// How participants are ranked. The short form `leaderboard: timed` gives the type alone.
    #[serde(deserialize_with = "forms::leaderboard")]
    #[schemars(schema_with = "forms::leaderboard_schema")]
    pub leaderboard: LeaderboardKeys,
    /// Prizes; the older place of `leaderboard.prizes`.
    pub prizes: Option<Prizes>,
    /// Which pages of the instructions are shown.
    pub instructions: Instructions,
}

/// The portal.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortalKeys {
    /// Password of the portal's administrator. Accepted and unused: facilitators enter by a
    /// one-time link.
    pub admin_password: Option<Secret>,
}

/// Which databases each seat gets.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseKeys {
    /// A MongoDB database for each seat.
    pub mongodb: bool,
    /// A PostgreSQL database for each seat.
    pub postgres: Option<bool>,
    /// The same as `postgres`.
    pub postgresql: Option<bool>,
}

impl Default for DatabaseKeys {
    fn default() -> Self {
        Self {
            mongodb: true,
            postgres: None,
            postgresql: None,
        }
    }
}

impl DatabaseKeys {
    /// Returns whether seats get a PostgreSQL database.
    pub fn has_postgres(&self) -> bool {
        self.postgres.or(self.postgresql).unwrap_or(false)
    }
}

/// The language model.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Llm {
    /// Whether participants may use a language model.
    pub enabled: bool,
    /// Who answers.
    pub provider: Option<Provider>,
    /// Name of the model, such as `gpt-5-chat`.
    #[schemars(length(min = 1))]
    pub model: Option<String>,
    /// Whether the model is reached through Amazon Bedrock.
    pub bedrock: Option<bool>,
    /// Region of the model.
    #[schemars(length(min = 1))]
    pub region: Option<String>,
    /// Whether the editor's assistant may use the seat's databases.
    pub mcp: Option<bool>,
    /// The proxy in front of the provider.
    pub proxy: Option<Proxy>,
    /// The short form of `proxy.enabled`.
    pub proxy_enabled: Option<bool>,
}

impl Llm {
    /// Returns whether the proxy answers inside seats.
    pub fn has_proxy(&self) -> bool {
        let asked = self
            .proxy
            .as_ref()
            .and_then(|proxy| proxy.enabled)
            .or(self.proxy_enabled);
        self.enabled && asked.unwrap_or(true)
    }
}

/// Who answers questions to the language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// OpenAI, or Azure OpenAI.
    Openai,
    /// Anthropic.
    Anthropic,
}

impl Provider {
    /// Returns the name as it is written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// The proxy in front of the language model.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Proxy {
    /// Whether it is used.
    pub enabled: Option<bool>,
    /// Kind of the proxy, such as `litellm`; apps read it as `LLM_PROXY_TYPE`.
    #[schemars(length(min = 1))]
    pub r#type: Option<String>,
    /// Host name under which seats reach it.
    #[schemars(length(min = 1))]
    pub service_name: Option<String>,
    /// Port under which seats reach it.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Whether answers are kept and given again.
    pub cache: Option<bool>,
    /// Redis for the answers. Matters in a cloud only.
    pub redis: Option<Redis>,
}

/// Redis for the answers of the language model. Matters in a cloud only.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Whether it is used.
    pub enabled: Option<bool>,
    /// Where it is.
    pub service: RedisService,
}

/// Where Redis is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisService {
    /// Host name.
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// Port.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// How participants are ranked.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeaderboardKeys {
    /// `timed`: most exercises, then least time. `score`: points by order of solving.
    pub r#type: Scoring,
    /// Instant after which results no longer count, such as `2026-11-23T17:00:00Z`.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub close_on: Option<Timestamp>,
    /// Prizes, for showing.
    pub prizes: Option<Prizes>,
}

/// Prizes, for showing.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prizes {
    /// Whether there are any.
    pub enabled: bool,
    /// Where they are given.
    pub r#where: Option<String>,
    /// When they are given.
    pub when: Option<String>,
}

/// Which pages of the instructions are shown.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Instructions {
    /// Navigation file in `docs/_data`.
    #[schemars(length(min = 1))]
    pub base: String,
    /// Sections of the navigation to show; empty: all.
    pub sections: Vec<Section>,
}

impl Default for Instructions {
    fn default() -> Self {
        Self {
            base: "navigation.yml".to_owned(),
            sections: Vec::new(),
        }
    }
}

/// A section of the navigation to show.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Title as it stands in the navigation.
    #[schemars(length(min = 1))]
    pub title: String,
    /// Addresses of the pages to show, such as `/crud/1/`; empty: the whole section.
    #[serde(default)]
    pub content: Vec<String>,
}

/// Arena's own settings.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Arena {
    /// Title of the event, shown to people.
    #[schemars(length(min = 1, max = 100))]
    pub title: Option<String>,
    /// How people get in: by personal link, by the event's code and a name, or both. Left out: both.
    #[schemars(length(min = 1))]
    pub join: Vec<JoinMode>,
    /// Port of the gateway on this machine. Without it, `--port` or 8080.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Languages of the portal, the first one is the default. Left out: English alone.
    #[schemars(length(min = 1))]
    pub languages: Vec<Language>,
    /// Seats.
    pub seats: SeatKeys,
    /// Databases that are there already.
    pub database: DatabaseUris,
    /// How much each seat may take of the built-in database, and in megabytes of PostgreSQL. A facilitator
    /// can raise a seat's in the room.
    pub quota: QuotaKeys,
}

impl Default for Arena {
    fn default() -> Self {
        Self {
            title: None,
            join: vec![JoinMode::Link, JoinMode::Code],
            port: None,
            languages: vec![Language::En],
            seats: SeatKeys::default(),
            database: DatabaseUris::default(),
            quota: QuotaKeys::default(),
        }
    }
}

/// How people get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JoinMode {
    /// By a personal link, for people on the list.
    Link,
    /// By the event's code and a name, for people who walk in.
    Code,
}

impl JoinMode {
    /// Returns the name as it is written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Code => "code",
        }
    }
}

/// Languages of the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    En,
    /// Spanish.
    Es,
}

impl Language {
    /// Returns the name as it is written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Es => "es",
        }
    }
}

/// Seats.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SeatKeys {
    /// What seats may reach outside: `registries` (package registries), `none`, `all` (public
    /// addresses, port 443), or a list of host names.
    #[serde(deserialize_with = "forms::outbound")]
    #[schemars(schema_with = "forms::outbound_schema")]
    pub outbound: Outbound,
    /// Memory in MiB that all programs of a seat may use together; a seat that uses more is
    /// started again. A person with editor and app was measured to need 550.
    #[schemars(range(min = 256, max = 262_144))]
    pub memory_mib: u32,
    /// Minutes after which editors are stopped when nobody at all is in the room: no browser has any
    /// seat's editor open. Each starts again with its next visitor. Files stay and apps go on; what
    /// runs in the editors' terminals ends.
    #[schemars(range(min = 1, max = 100_000))]
    pub editor_idle_minutes: u32,
}

impl Default for SeatKeys {
    fn default() -> Self {
        Self {
            outbound: Outbound::default(),
            memory_mib: 2048,
            editor_idle_minutes: 120,
        }
    }
}

/// Where databases come from, instead of the built-in ones.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseUris {
    /// Where MongoDB comes from: `builtin` (DocumentDB), `mongod` (of this machine), `atlas-local`
    /// (in Docker), or the URI of a MongoDB with rights to make users, such as
    /// `mongodb://admin:…@db1.example.com,db2.example.com` or `mongodb+srv://admin:…@cluster.example.com`.
    /// Left out: `mongod` where it is installed, else `builtin`.
    #[serde(deserialize_with = "forms::mongodb")]
    #[schemars(schema_with = "forms::mongodb_schema")]
    pub mongodb: Option<MongodbChoice>,
    /// Archive of the built-in engine, a path or an address, with `#sha256=…` behind it. Left out:
    /// `ARENA_ENGINE_ARCHIVE`, else Debian's packages.
    #[schemars(length(min = 1))]
    pub engine: Option<String>,
    /// URI of a PostgreSQL with rights to make roles, such as `postgres://admin:…@db.example.com`.
    pub postgres: Option<Secret>,
    /// Extensions of PostgreSQL that every seat's database gets, besides `vector`: such as `pg_trgm`,
    /// `postgis`, `hstore`. Those that reach files, the network or other databases are refused.
    pub extensions: Vec<String>,
}

impl DatabaseUris {
    /// Returns the URI of a configured MongoDB.
    pub fn mongodb_uri(&self) -> Option<&Secret> {
        self.mongodb.as_ref()?.uri()
    }
}

/// How much each seat may take of the built-in database, and in megabytes of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaKeys {
    /// Megabytes of a seat's database on disk, indexes included; in PostgreSQL as many again, beyond what
    /// an empty database takes. Leave room for twice the workshop's data.
    #[schemars(range(min = 8, max = 1_000_000))]
    pub megabytes: u32,
    /// Documents of a seat's database.
    #[schemars(range(min = 100))]
    pub documents: u32,
    /// Collections and views of a seat's database.
    #[schemars(range(min = 1, max = 10_000))]
    pub collections: u32,
    /// Indexes of a seat's database, those over `_id` included.
    #[schemars(range(min = 1, max = 20_000))]
    pub indexes: u32,
    /// Open connections of a seat: apps, shells and the editor's extension together.
    #[schemars(range(min = 5, max = 1000))]
    pub connections: u32,
    /// The longest time of one statement, in seconds.
    #[schemars(range(min = 1, max = 600))]
    pub statement_seconds: u32,
    /// Commands of a seat in a second; more of them wait and none fails.
    #[schemars(range(min = 10, max = 1_000_000))]
    pub commands_per_second: u32,
}

impl Default for QuotaKeys {
    fn default() -> Self {
        Self {
            megabytes: 256,
            documents: 1_000_000,
            collections: 200,
            indexes: 400,
            connections: 100,
            statement_seconds: 30,
            commands_per_second: 5_000,
        }
    }
}
