//! Rules over `config.yaml` that a schema cannot say, each with its place.

use std::collections::BTreeMap;

use super::{Config, Outbound, QuotaKeys, Secret};
use crate::EventId;
use crate::participants::{SPARE_PREFIX, label};
use crate::source::{Problems, Severity, SourceFile};
use crate::yaml::{Node, nearest};

/// Keys that only matter in a cloud, and the value at which an untouched file leaves them.
const CLOUD_KEYS: &[(&[&str], &str)] = &[
    (&["mongodb", "public_key"], "PUBLIC_KEY"),
    (&["mongodb", "private_key"], "PRIVATE_KEY"),
    (&["mongodb", "project_name"], "PROJECT_NAME"),
    (&["mongodb", "cluster_region"], ""),
    (&["mongodb", "instance_size"], ""),
    (&["mongodb", "dedicated_project"], ""),
    (
        &["mongodb", "database_admin_password"],
        "MongoArenaAdminDummy",
    ),
    (&["aws", "region"], ""),
    (&["aws", "profile"], ""),
    (&["domain", "email"], "arena@mongodb.com"),
    (&["scenario", "llm", "proxy", "redis"], ""),
];

/// Keys that Arena accepts for compatibility and does in a safer way.
const REPLACED_KEYS: &[(&[&str], &str)] = &[
    (
        &["mongodb", "customer_user_password"],
        "Arena makes a password for each seat",
    ),
    (
        &["scenario", "portal", "admin_password"],
        "facilitators enter by a one-time link",
    ),
];

/// Extensions of PostgreSQL that leave a seat in its database.
const EXTENSIONS: &[&str] = &[
    "address_standardizer-3",
    "autoinc",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "insert_username",
    "intagg",
    "intarray",
    "isn",
    "ltree",
    "moddatetime",
    "pg_trgm",
    "pgcrypto",
    "postgis",
    "refint",
    "seg",
    "tablefunc",
    "tcn",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
    "vector",
    "xml2",
];

/// Known extensions that let a seat out, each with how.
const EXTENSIONS_REFUSED: &[(&str, &str)] = &[
    ("adminpack", "writes files of the server"),
    ("dblink", "opens connections from the server to anywhere"),
    ("documentdb", "is the built-in database's own"),
    ("file_fdw", "reads files of the server"),
    ("pageinspect", "reads what others deleted"),
    (
        "pg_cron",
        "runs statements when nobody is there to be limited",
    ),
    ("pg_prewarm", "takes the memory that all seats share"),
    ("pg_stat_statements", "shows other seats' statements"),
    ("plperlu", "runs any program on the server"),
    ("plpython3u", "runs any program on the server"),
    (
        "postgres_fdw",
        "opens connections from the server to anywhere",
    ),
];

const INSTANCE_SIZES: &[&str] = &[
    "M10", "M20", "M30", "M40", "M50", "M60", "M80", "M140", "M200", "M300", "R40", "R50", "R60",
    "R80", "R200", "R300", "R400", "R700",
];

/// Checks the tree, and the values where they could be read.
pub(super) fn check(
    file: &SourceFile,
    node: &Node,
    config: Option<&Config>,
    problems: &mut Problems,
) {
    let mut checker = Checker {
        file,
        node,
        problems,
    };
    checker.cloud_keys();
    let text = |path: &[&str]| {
        path.iter()
            .try_fold(node, |node, key| node.get(key))
            .and_then(Node::text)
            .map(str::to_owned)
    };
    if let Some(name) = text(&["customer", "name"]).filter(|name| !name.trim().is_empty()) {
        checker.customer_name(&name);
    }
    if let Some(size) = text(&["mongodb", "instance_size"]) {
        checker.instance_size(&size);
    }
    if let Some(region) = text(&["mongodb", "cluster_region"]) {
        checker.region(&["mongodb", "cluster_region"], &region, '_', "US_EAST_2");
    }
    if let Some(region) = text(&["aws", "region"]) {
        checker.region(&["aws", "region"], &region, '-', "us-east-2");
    }
    for path in [
        &["scenario", "frontend"][..],
        &["scenario", "backend"],
        &["scenario", "instructions", "base"],
    ] {
        if let Some(folder) = text(path) {
            checker.relative_path(path, &folder);
        }
    }
    for path in [&["scenario", "repository"][..], &["scenario", "branch"]] {
        if let Some(value) = text(path) {
            checker.git_argument(path, &value);
        }
    }
    if let Some(config) = config {
        checker.values(config);
    }
}

/// Returns the keys that the file leaves out and what stands in for them.
pub(super) fn defaults(config: &Config, node: &Node) -> BTreeMap<String, String> {
    let is_written = |key: &str| {
        let mut place = Some(node);
        for step in key.split('.') {
            place = place.and_then(|node| node.get(step));
            if place.is_some_and(|node| node.text().is_some()) {
                return true;
            }
        }
        place.is_some_and(|node| !node.is_null())
    };
    let has_other_form = node
        .get("scenario")
        .and_then(|scenario| scenario.get("database"))
        .and_then(|database| database.get("postgresql"))
        .is_some();
    chosen(config)
        .into_iter()
        .filter(|(key, _)| {
            !(is_written(key) || has_other_form && *key == "scenario.database.postgres")
        })
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Returns every key that has a default, with the value in force.
fn chosen(config: &Config) -> Vec<(&'static str, String)> {
    let (mongodb, scenario, arena) = (&config.mongodb, &config.scenario, &config.arena);
    let database = &scenario.database;
    let spare = mongodb.cluster_name.as_deref().unwrap_or(SPARE_PREFIX);
    let join: Vec<&str> = arena.join.iter().map(|mode| mode.as_str()).collect();
    let languages: Vec<&str> = arena
        .languages
        .iter()
        .map(|language| language.as_str())
        .collect();
    let spares = mongodb.additional_users_count.to_string();
    let first_spare = mongodb.user_start_index.to_string();
    let scoring = scenario.leaderboard.r#type.as_str().to_owned();
    vec![
        ("mongodb.additional_users_count", spares),
        ("mongodb.create_indexes", mongodb.create_indexes.to_string()),
        ("mongodb.user_start_index", first_spare),
        ("mongodb.cluster_name", spare.to_owned()),
        ("scenario.database.mongodb", database.mongodb.to_string()),
        (
            "scenario.database.postgres",
            database.has_postgres().to_string(),
        ),
        ("scenario.leaderboard.type", scoring),
        ("scenario.llm.enabled", scenario.llm.enabled.to_string()),
        (
            "scenario.instructions.base",
            scenario.instructions.base.clone(),
        ),
        ("arena.join", join.join(", ")),
        ("arena.languages", languages.join(", ")),
        ("arena.seats.outbound", arena.seats.outbound.describe()),
        ("arena.seats.memory_mib", arena.seats.memory_mib.to_string()),
        (
            "arena.seats.editor_idle_minutes",
            arena.seats.editor_idle_minutes.to_string(),
        ),
    ]
    .into_iter()
    .chain(chosen_quota(&arena.quota).map(|(key, value)| (key, value.to_string())))
    .collect()
}

fn chosen_quota(quota: &QuotaKeys) -> [(&'static str, u32); 7] {
    [
        ("arena.quota.megabytes", quota.megabytes),
        ("arena.quota.documents", quota.documents),
        ("arena.quota.collections", quota.collections),
        ("arena.quota.indexes", quota.indexes),
        ("arena.quota.connections", quota.connections),
        ("arena.quota.statement_seconds", quota.statement_seconds),
        ("arena.quota.commands_per_second", quota.commands_per_second),
    ]
}

/// Returns whether a path stays inside the workshop's repository, without `.git`.
pub(crate) fn stays_inside(path: &str) -> bool {
    let is_plain = |part: &str| !["..", ".git", "."].contains(&part);
    !path.is_empty()
        && !path.starts_with(['/', '-'])
        && !path.contains(['\\', '\0'])
        && path.split('/').all(is_plain)
}

struct Checker<'a> {
    file: &'a SourceFile,
    node: &'a Node,
    problems: &'a mut Problems,
}

impl Checker<'_> {
    fn error(&mut self, path: &[&str], message: String, hint: String) {
        self.problems
            .push(self.file.error(self.node.find(path), message).hint(hint));
    }

    fn note(&mut self, path: &[&str], message: String) {
        let problem = self
            .file
            .problem(Severity::Note, self.node.find_key(path), message);
        let is_secret = path
            .last()
            .is_some_and(|key| key.ends_with("_password") || key.ends_with("_key"));
        self.problems.push(if is_secret {
            problem.without_excerpt()
        } else {
            problem
        });
    }

    fn cloud_keys(&mut self) {
        let find = |path: &[&str]| {
            path.iter()
                .try_fold(self.node, |node, key| node.get(key))
                .filter(|node| !node.is_null())
        };
        let mut notes = Vec::new();
        for (path, placeholder) in CLOUD_KEYS {
            if let Some(node) = find(path) {
                let key = path.join(".");
                let still = match node.text() {
                    Some(text) if text == *placeholder => ", and is still at its placeholder",
                    _ => "",
                };
                notes.push((*path, format!("`{key}` matters in a cloud only{still}")));
            }
        }
        for (path, reason) in REPLACED_KEYS {
            if find(path).is_some() {
                notes.push((*path, format!("`{}` is not used: {reason}", path.join("."))));
            }
        }
        for (path, message) in notes {
            self.note(path, message);
        }
    }

    fn customer_name(&mut self, name: &str) {
        let path = &["customer", "name"];
        if EventId::new(label(name)).is_err() {
            let hint = "use at least one letter or digit, such as `Acme`".to_owned();
            self.error(
                path,
                format!("`customer.name` cannot name a folder: `{name}`"),
                hint,
            );
        }
    }

    fn instance_size(&mut self, size: &str) {
        if !INSTANCE_SIZES.contains(&size) {
            let hint = match nearest(size, INSTANCE_SIZES.iter().copied()) {
                Some(meant) => format!(
                    "did you mean `{meant}`? Accepted: {}",
                    INSTANCE_SIZES.join(", ")
                ),
                None => format!("write one of: {}", INSTANCE_SIZES.join(", ")),
            };
            self.error(
                &["mongodb", "instance_size"],
                format!("`mongodb.instance_size` is not a size: `{size}`"),
                hint,
            );
        }
    }

    /// Checks a region such as `US_EAST_2` or `us-east-2`: words, then a number.
    fn region(&mut self, path: &[&str], region: &str, separator: char, example: &str) {
        let parts: Vec<&str> = region.split(separator).collect();
        let is_upper = separator == '_';
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.chars().all(|c| {
                    if is_upper {
                        c.is_ascii_uppercase()
                    } else {
                        c.is_ascii_lowercase()
                    }
                })
        };
        let is_right = match parts.split_last() {
            Some((number, words)) => {
                words.len() >= 2
                    && words.iter().all(is_word)
                    && !number.is_empty()
                    && number.bytes().all(|b| b.is_ascii_digit())
            }
            None => false,
        };
        if is_right {
            return;
        }
        let other: String = region
            .chars()
            .map(|c| if c == '-' || c == '_' { separator } else { c })
            .collect();
        let other = if is_upper {
            other.to_uppercase()
        } else {
            other.to_lowercase()
        };
        let hint = if other == region {
            format!("write one such as `{example}`")
        } else {
            format!("write one such as `{example}`; did you mean `{other}`?")
        };
        self.error(
            path,
            format!("`{}` is not a region: `{region}`", path.join(".")),
            hint,
        );
    }

    fn relative_path(&mut self, path: &[&str], folder: &str) {
        if !stays_inside(folder) {
            let hint = "write a path inside the repository, such as `server`".to_owned();
            self.error(
                path,
                format!("`{}` leaves the repository: `{folder}`", path.join(".")),
                hint,
            );
        }
    }

    /// Checks a text that is handed to git, which must not take it for an option.
    fn git_argument(&mut self, path: &[&str], value: &str) {
        if value.starts_with('-') || value.contains(char::is_whitespace) {
            let hint = "write an address such as `https://example.com/workshop.git`, or a branch such as `main`".to_owned();
            self.error(
                path,
                format!("`{}` cannot be handed to git: `{value}`", path.join(".")),
                hint,
            );
        }
    }

    fn values(&mut self, config: &Config) {
        let database = &config.scenario.database;
        if let (Some(one), Some(other)) = (database.postgres, database.postgresql)
            && one != other
        {
            let hint = "they mean the same; remove `postgresql`".to_owned();
            self.error(
                &["scenario", "database", "postgresql"],
                "`postgres` and `postgresql` disagree".to_owned(),
                hint,
            );
        }
        let uris = &config.arena.database;
        self.uri(
            "mongodb",
            uris.mongodb_uri(),
            &["builtin", "mongod", "atlas-local"],
            &["mongodb://", "mongodb+srv://"],
        );
        self.uri(
            "postgres",
            uris.postgres.as_ref(),
            &[],
            &["postgres://", "postgresql://"],
        );
        let quota = &config.arena.quota;
        if quota.indexes < quota.collections {
            self.error(
                &["arena", "quota", "indexes"],
                format!(
                    "`arena.quota.indexes` ({}) is smaller than `arena.quota.collections` ({})",
                    quota.indexes, quota.collections
                ),
                "every collection has an index over `_id`; allow at least twice as many indexes"
                    .to_owned(),
            );
        }
        for (index, name) in uris.extensions.iter().enumerate() {
            self.extension(
                &["arena", "database", "extensions", &index.to_string()],
                name,
            );
        }
        if let Outbound::Hosts(hosts) = &config.arena.seats.outbound {
            for (index, host) in hosts.iter().enumerate() {
                self.host(&["arena", "seats", "outbound", &index.to_string()], host);
            }
        }
        for (number, section) in config.scenario.instructions.sections.iter().enumerate() {
            for (index, page) in section.content.iter().enumerate() {
                if !page.starts_with('/') || !page.ends_with('/') {
                    let path = [
                        "scenario",
                        "instructions",
                        "sections",
                        &number.to_string(),
                        "content",
                        &index.to_string(),
                    ];
                    let hint = format!(
                        "write it as it stands in the navigation, such as `/{}/`",
                        page.trim_matches('/')
                    );
                    self.error(
                        &path,
                        format!("`{page}` is not the address of a page"),
                        hint,
                    );
                }
            }
        }
    }

    fn extension(&mut self, path: &[&str], name: &str) {
        if EXTENSIONS.contains(&name) {
            return;
        }
        let (problem, hint) = match EXTENSIONS_REFUSED.iter().find(|(other, _)| *other == name) {
            Some((_, why)) => (
                format!("seats cannot have the extension `{name}`: it {why}"),
                "remove it; participants' own SQL cannot use it".to_owned(),
            ),
            None => (
                format!("`{name}` is not an extension that seats can have"),
                match nearest(name, EXTENSIONS.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("choose among {}", EXTENSIONS.join(", ")),
                },
            ),
        };
        self.error(path, problem, hint);
    }

    fn uri(&mut self, key: &str, uri: Option<&Secret>, words: &[&str], schemes: &[&str]) {
        let Some(uri) = uri else { return };
        let is_right = schemes.iter().any(|scheme| {
            uri.reveal()
                .strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty())
        });
        if !is_right {
            let path = ["arena", "database", key];
            let problem = self.file.error(
                self.node.find_key(&path),
                format!("`arena.database.{key}` is not a URI of {key}"),
            );
            let schemes = schemes.join(" or ");
            let hint = match nearest(uri.reveal(), words.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if words.is_empty() => format!("begin it with {schemes}"),
                None => format!("write {}, or begin it with {schemes}", words.join(", ")),
            };
            self.problems.push(problem.without_excerpt().hint(hint));
        }
    }

    fn host(&mut self, path: &[&str], host: &str) {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let is_label = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        if is_address || !name.contains('.') || !name.split('.').all(is_label) {
            let hint = "write host names such as `registry.acme.test`, or `*.example.com` for all below; no addresses, ports or paths".to_owned();
            self.error(path, format!("`{host}` is not a host name"), hint);
        }
    }
}
