//! Keys with two forms. Serde's `untagged` would hide the reason of a mistake,
//! so each form is told apart here by its shape.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

use super::{LeaderboardKeys, Secret};
use crate::scoring::Scoring;

/// What seats may reach outside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outbound {
    /// Nothing.
    None,
    /// Package registries.
    #[default]
    Registries,
    /// These host names.
    Hosts(Vec<String>),
    /// Every public address, port 443.
    All,
}

impl Outbound {
    /// Returns the value as it is written in the file.
    pub fn describe(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Registries => "registries".to_owned(),
            Self::Hosts(hosts) => hosts.join(", "),
            Self::All => "all".to_owned(),
        }
    }
}

/// Where MongoDB comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MongodbChoice {
    /// DocumentDB behind our front.
    BuiltIn,
    /// A `mongod` of this machine.
    Mongod,
    /// `mongodb/mongodb-atlas-local` in Docker.
    AtlasLocal,
    /// A server that somebody else runs.
    Uri(Secret),
}

impl MongodbChoice {
    /// The words for those that have one.
    pub const WORDS: [&str; 3] = ["builtin", "mongod", "atlas-local"];

    /// Returns the URI, where it is one.
    pub fn uri(&self) -> Option<&Secret> {
        match self {
            Self::Uri(uri) => Some(uri),
            Self::BuiltIn | Self::Mongod | Self::AtlasLocal => None,
        }
    }
}

pub(super) fn mongodb<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<MongodbChoice>, D::Error> {
    let text: Option<Secret> = Option::deserialize(deserializer)?;
    Ok(text.map(|text| match text.reveal() {
        "builtin" => MongodbChoice::BuiltIn,
        "mongod" => MongodbChoice::Mongod,
        "atlas-local" => MongodbChoice::AtlasLocal,
        // Whether it is a URI is checked with its place; it may hold a password.
        _ => MongodbChoice::Uri(text),
    }))
}

pub(super) fn mongodb_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Where MongoDB comes from: `builtin` (DocumentDB), `mongod` (of this machine), `atlas-local` (in Docker), or the URI of a MongoDB with rights to make users, such as `mongodb://admin:…@db1.example.com,db2.example.com` or `mongodb+srv://admin:…@cluster.example.com`. Left out: `mongod` where it is installed, else `builtin`.",
        "anyOf": [
            { "type": "string", "enum": MongodbChoice::WORDS },
            { "type": "string", "minLength": 1 },
            { "type": "null" },
        ],
    })
}

pub(super) fn outbound<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Outbound, D::Error> {
    match Json::deserialize(deserializer)? {
        Json::String(word) if word == "none" => Ok(Outbound::None),
        Json::String(word) if word == "registries" => Ok(Outbound::Registries),
        Json::String(word) if word == "all" => Ok(Outbound::All),
        list @ Json::Array(_) => serde_json::from_value(list)
            .map(Outbound::Hosts)
            .map_err(D::Error::custom),
        other => Err(D::Error::custom(format!(
            "{other} is neither a known word nor a list of hosts"
        ))),
    }
}

pub(super) fn outbound_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "What seats may reach outside: `registries` (package registries), `none`, `all` (public addresses, port 443), or a list of host names.",
        "default": "registries",
        "anyOf": [
            { "type": "string", "enum": ["registries", "none", "all"] },
            { "type": "array", "items": { "type": "string", "minLength": 1 } },
        ],
    })
}

pub(super) fn leaderboard<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<LeaderboardKeys, D::Error> {
    match Json::deserialize(deserializer)? {
        word @ Json::String(_) => {
            let r#type: Scoring = serde_json::from_value(word).map_err(D::Error::custom)?;
            Ok(LeaderboardKeys {
                r#type,
                ..LeaderboardKeys::default()
            })
        }
        keys => serde_json::from_value(keys).map_err(D::Error::custom),
    }
}

pub(super) fn leaderboard_schema(generator: &mut SchemaGenerator) -> Schema {
    let long = LeaderboardKeys::json_schema(generator);
    let short = Scoring::json_schema(generator);
    let words = short
        .get("oneOf")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .filter_map(|word| word.get("const").cloned());
    let words: Vec<Json> = words.collect();
    json_schema!({
        "description": "How participants are ranked. The short form `leaderboard: timed` gives the type alone.",
        "anyOf": [long, { "type": "string", "enum": words }],
    })
}
