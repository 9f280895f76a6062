//! `arena/workshop.yaml`: what an author may say about the content. Every key
//! is optional; conventions stand in.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::stays_inside;
use crate::plan::AppKind;
use crate::source::{Problems, SourceFile};
use crate::yaml::Node;

/// The file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Arena: arena/workshop.yaml")]
pub struct ContentKeys {
    /// Title of the workshop, shown to people.
    #[schemars(length(min = 1, max = 100))]
    pub title: Option<String>,
    /// Languages of the instructions, such as `en`.
    pub languages: Vec<String>,
    /// Major version of Node for installing, building and running. Without it, 24.
    #[schemars(range(min = 18, max = 99))]
    pub node: Option<u32>,
    /// Programs that participants use in the terminal, such as `psql`.
    pub tools: Vec<String>,
    /// The seat's apps.
    pub apps: AppsKeys,
    /// Data files. Without them, everything in `arena/data`, by name.
    pub data: DataKeys,
    /// File that the editor opens first. Without it, the first exercise's first file.
    #[schemars(length(min = 1))]
    pub first_file: Option<String>,
    /// Paths that a seat does not get, besides Arena's own.
    pub removed: Vec<String>,
}

/// The seat's apps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppsKeys {
    /// Reached under `/backend/`, port 5000.
    pub backend: Option<AppKeys>,
    /// Reached under `/app/`, static files.
    pub frontend: Option<AppKeys>,
    /// Reached under `/react/`, port 3001.
    pub react: Option<AppKeys>,
    /// Reached under `/postgres/`, port 5001.
    pub postgres: Option<AppKeys>,
}

impl AppsKeys {
    /// Returns what is said about an app.
    pub fn get(&self, kind: AppKind) -> Option<&AppKeys> {
        match kind {
            AppKind::Backend => self.backend.as_ref(),
            AppKind::Frontend => self.frontend.as_ref(),
            AppKind::React => self.react.as_ref(),
            AppKind::Postgres => self.postgres.as_ref(),
        }
    }
}

/// An app.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppKeys {
    /// Folder in the repository. Without it, `scenario.backend` or `scenario.frontend`.
    #[schemars(length(min = 1))]
    pub folder: Option<String>,
    /// Commands that prepare it once for all seats. Without them `npm ci`, or `npm install` where
    /// there is no lock file, and `npm run build` for a front end.
    pub prepare: Option<Vec<String>>,
    /// Command that starts it. Without it, `npm start`; none for a front end.
    #[schemars(length(min = 1))]
    pub start: Option<String>,
    /// Whether it is started with the seat; else the participant starts it. Without it, `true`.
    pub autostart: Option<bool>,
    /// Folders of a front end's built files, tried in order. Without them `out`, `dist`, `build`.
    #[serde(rename = "static")]
    pub static_folders: Option<Vec<String>>,
    /// Further lines of the app's `.env` file; `${NAME}` stands for a variable of the seat.
    pub env: BTreeMap<String, String>,
}

/// Data files, inside the workshop.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataKeys {
    /// For MongoDB: `.ndjson`, `.json`, `.csv`, `.bson`, `.archive`, `.indexes.json`,
    /// `.validator.json`, `.view.json`.
    pub mongodb: Option<Vec<String>>,
    /// For PostgreSQL: `.sql`, or `.dump` as `pg_dump` makes it.
    pub postgres: Option<Vec<String>>,
    /// A data set that Arena makes, besides the files: `listings` is `listingsAndReviews` in MongoDB
    /// and five tables in PostgreSQL.
    pub set: Option<DataSetName>,
    /// Seed of the data set: the same one gives the same bytes. Without it, 1.
    pub seed: Option<u64>,
    /// Documents of the data set. Without it, 5555; from 500 on all its guarantees hold.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub documents: Option<u32>,
}

/// Data sets that Arena makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataSetName {
    /// Holiday lettings with hosts and reviews.
    Listings,
}

impl DataSetName {
    /// Returns the name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listings => "listings",
        }
    }
}

/// Checks what a schema cannot say: paths stay inside the workshop, variables have names. Returns
/// whether all is well; what is not is in `problems`.
pub(super) fn check(
    file: &SourceFile,
    node: &Node,
    keys: &ContentKeys,
    problems: &mut Problems,
) -> bool {
    let before = problems.len();
    if keys.data.set.is_none() {
        for key in ["seed", "documents"] {
            if node.get("data").and_then(|data| data.get(key)).is_some() {
                let problem = file.error(
                    node.find_key(&["data", key]),
                    format!("`{key}` needs a data set"),
                );
                problems.push(problem.hint("name one: `data: { set: listings }`"));
            }
        }
    }
    let mut path = |place: &[&str], path: &str| {
        if !stays_inside(path) && path != "." {
            let problem = file.error(node.find(place), format!("`{path}` leaves the workshop"));
            problems.push(problem.hint("write a path inside the workshop, such as `server`"));
        }
    };
    for (index, removed) in keys.removed.iter().enumerate() {
        path(&["removed", &index.to_string()], removed);
    }
    for kind in AppKind::ALL {
        let Some(app) = keys.apps.get(kind) else {
            continue;
        };
        if let Some(folder) = &app.folder {
            path(&["apps", kind.as_str(), "folder"], folder);
        }
        for (index, folder) in app.static_folders.iter().flatten().enumerate() {
            path(
                &["apps", kind.as_str(), "static", &index.to_string()],
                folder,
            );
        }
    }
    for kind in AppKind::ALL {
        for name in keys
            .apps
            .get(kind)
            .into_iter()
            .flat_map(|app| app.env.keys())
        {
            let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name {
                let span = node.find_key(&["apps", kind.as_str(), "env", name]);
                let problem = file.error(span, format!("`{name}` is no name of a variable"));
                problems.push(problem.hint("use letters, digits and `_`, such as `LOG_LEVEL`"));
            }
        }
    }
    problems.len() == before
}
