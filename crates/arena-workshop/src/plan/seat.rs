//! A seat's environment, and what its agent is told. The environment names
//! secrets; only [`Plan::seat_settings`] fills their values in.

use std::collections::BTreeMap;

use thiserror::Error;

use super::ports::Ports;
use super::{
    Address, AppKind, AppPlan, DatabasesPlan, MongodbSource, Plan, PostgresConnection, SeatPlan,
    SeatSettings, SecretName, TemplatePlan,
};
use crate::{SeatId, Workshop};

/// Where a seat's files are, for the seat.
pub(super) const HOME: &str = "/home/workspace";
/// How a value refers to a secret.
const SECRET: &str = "${secret:";

/// A secret of the plan has no value.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("the secret {0} has no value")]
pub struct MissingSecret(pub SecretName);

/// What seats have in common.
pub(super) struct Surroundings<'a> {
    pub(super) address: &'a Address,
    pub(super) databases: &'a DatabasesPlan,
    pub(super) template: &'a TemplatePlan,
    pub(super) ports: &'a Ports,
}

/// Returns the variables of a seat's editor, terminals and apps.
pub(super) fn environment(
    workshop: &Workshop,
    seat: &SeatId,
    surroundings: &Surroundings<'_>,
) -> BTreeMap<String, String> {
    let Surroundings {
        address,
        databases,
        template,
        ports,
    } = surroundings;
    let scenario = &workshop.config.scenario;
    let work = format!("{HOME}/{}", template.repository);
    let backend = template
        .apps
        .iter()
        .find(|app| app.kind == AppKind::Backend)
        .map_or("server", |app| app.folder.as_str());
    let origin = address.origin(&format!("{seat}.{}", address.domain));
    let mut variables = BTreeMap::from([
        ("DATABASE_NAME", seat.as_str().to_owned()),
        ("ENVIRONMENT", "prod".to_owned()),
        ("LOG_LEVEL", "INFO".to_owned()),
        (
            "SERVICE_NAME",
            format!("http://localhost:{}", ports.backend),
        ),
        ("SIGNAL_FILE_PATH", format!("{work}/{backend}/signal")),
        ("LOG_PATH", "/tmp".to_owned()),
        ("WORKSHOP_USER", "/app".to_owned()),
        (
            "LEADERBOARD",
            scenario.leaderboard.r#type.as_str().to_owned(),
        ),
        ("BACKEND_URL", format!("{origin}/backend")),
    ]);
    variables.extend(database_variables(seat, databases, ports));
    variables.extend(llm_variables(workshop, ports));
    variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn database_variables(
    seat: &SeatId,
    databases: &DatabasesPlan,
    ports: &Ports,
) -> Vec<(&'static str, String)> {
    let password = SecretName::seat_database(seat).placeholder();
    let mut variables = Vec::new();
    if let Some(mongodb) = &databases.mongodb {
        let uri = match mongodb.source {
            // Participants paste it cut at `?`: what is behind must be needed by no client.
            MongodbSource::BuiltIn => {
                let port = ports.mongodb;
                format!("mongodb://{seat}:{password}@127.0.0.1:{port}/{seat}?directConnection=true")
            }
            _ => SecretName::seat_mongodb_uri(seat).placeholder(),
        };
        variables.extend([
            ("MONGODB_URI", uri.clone()),
            ("MDB_MCP_CONNECTION_STRING", uri),
        ]);
    }
    if databases.postgres.is_some() {
        let port = ports.postgres;
        let uri = PostgresConnection::new("127.0.0.1", port, seat.as_str(), &password, None).uri;
        variables.extend([
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", port.to_string()),
            ("PGUSER", seat.as_str().to_owned()),
            ("PGPASSWORD", password),
            ("PGDATABASE", seat.as_str().to_owned()),
            ("PGSQL_MCP_CONNECTION_STRING", uri),
        ]);
    }
    variables
}

fn llm_variables(workshop: &Workshop, ports: &Ports) -> Vec<(&'static str, String)> {
    let llm = &workshop.config.scenario.llm;
    let proxy = llm.proxy.clone().unwrap_or_default();
    let mut variables = vec![("LLM_PROXY_ENABLED", llm.has_proxy().to_string())];
    if llm.enabled {
        variables.extend([
            ("LLM_BEDROCK", llm.bedrock.unwrap_or(false).to_string()),
            (
                "LLM_PROXY_TYPE",
                proxy.r#type.unwrap_or_else(|| "litellm".to_owned()),
            ),
            (
                "LLM_PROXY_SERVICE",
                proxy.service_name.unwrap_or_else(|| "localhost".to_owned()),
            ),
            ("LLM_PROXY_PORT", ports.llm.to_string()),
        ]);
        variables.extend(llm.model.clone().map(|model| ("LLM_MODEL", model)));
        variables.extend(
            llm.provider
                .map(|provider| ("LLM_PROVIDER", provider.as_str().to_owned())),
        );
    }
    let region = llm
        .region
        .clone()
        .or_else(|| workshop.config.aws.region.clone());
    variables.extend(region.map(|region| ("AWS_REGION", region)));
    variables
}

impl Plan {
    /// Returns what a seat's agent is told, secrets filled in from `secret`. The caller sets
    /// `editor` and `editor_environment`, which depend on where the editor is installed.
    ///
    /// # Errors
    /// When a secret that the seat's environment names has no value.
    pub fn seat_settings(
        &self,
        seat: &SeatPlan,
        secret: impl Fn(&SecretName) -> Option<String>,
    ) -> Result<SeatSettings, MissingSecret> {
        let mut environment = BTreeMap::new();
        for (name, value) in &seat.environment {
            environment.insert(name.clone(), with_secrets(value, &secret)?);
        }
        let apps = self.template.apps.iter().map(|app| {
            let env_file = app
                .env_file
                .iter()
                .map(|(name, value)| (name.clone(), with_variables(value, &environment)));
            AppPlan {
                env_file: env_file.collect(),
                ..app.clone()
            }
        });
        Ok(SeatSettings {
            seat: seat.id.clone(),
            display_name: seat.display_name.clone(),
            home: HOME.to_owned(),
            work: format!("{HOME}/{}", self.template.repository),
            apps: apps.collect(),
            editor: Vec::new(),
            editor_environment: BTreeMap::new(),
            forwards: seat.forwards.clone(),
            watched: self.watched.clone(),
            first_file: self.first_file.clone(),
            environment,
        })
    }
}

/// Replaces every `${secret:NAME}`. A secret's own text is never looked through again.
fn with_secrets(
    value: &str,
    secret: &impl Fn(&SecretName) -> Option<String>,
) -> Result<String, MissingSecret> {
    let mut filled = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once(SECRET) {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        let name = SecretName(name.to_owned());
        filled.push_str(before);
        filled.push_str(&secret(&name).ok_or(MissingSecret(name))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Replaces every `${NAME}` by the seat's variable; an unknown one stays as it is.
fn with_variables(value: &str, variables: &BTreeMap<String, String>) -> String {
    let mut filled = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        filled.push_str(before);
        match variables.get(name) {
            Some(value) => filled.push_str(value),
            None => filled.push_str(&format!("${{{name}}}")),
        }
        rest = after;
    }
    // What `split_once` cut off without a closing brace is kept as it was.
    filled.push_str(rest);
    filled
}
