//! Workshop and target → plan. Every choice that nobody made is made here, by
//! convention, and the interesting ones are named in [`Plan::defaults`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::ports::Ports;
use super::seat::{HOME, Surroundings, environment};
use super::{
    Address, AppKind, AppPlan, Content, DataSetPlan, DatabasesPlan, Forward, Isolation,
    MongodbPlan, MongodbSource, Plan, PostgresPlan, PostgresSource, QuotaPlan, RoutePlan, SeatPlan,
    SecretName, ServiceKind, ServicePlan, Surface, Target, TemplatePlan,
};
use crate::participants::Seat;
use crate::workshop::{AppKeys, answer_files};
use crate::{Capability, DatabaseName, ServiceName, Workshop};

/// Domain on one machine: browsers resolve everything below `localhost` to loopback.
const DOMAIN: &str = "arena.localhost";
/// Node for workshops that name none.
const NODE_VERSION: u32 = 24;
/// Endings of files for MongoDB, each also compressed (`.gz`).
const MONGODB_DATA: &[&str] = &[".ndjson", ".jsonl", ".json", ".csv", ".bson", ".archive"];
/// What declares a collection's indexes; made in seats only where the config says so.
const INDEXES: &str = ".indexes.json";
/// What a seat never gets: Arena's files, answers, the people's list and passwords, histories.
const REMOVED: &[&str] = &[
    "arena",
    "utils",
    "atlas-cluster",
    "eks-cluster",
    "config.yaml",
    "user_list.csv",
    ".git",
    ".github",
    ".terraform",
    "terragrunt.hcl",
    "root.hcl",
];

/// Turns a workshop and a target into a plan. Pure: the same two give the same plan, byte for byte.
pub fn plan(workshop: &Workshop, target: &Target) -> Plan {
    let address = Address {
        scheme: "http".to_owned(),
        domain: DOMAIN.to_owned(),
        port: target.port,
    };
    let databases = databases(workshop, target);
    let ports = Ports::of(target, &workshop.config.scenario.llm);
    let template = template(workshop, target, &ports);
    let services = services(&databases);
    let surroundings = Surroundings {
        address: &address,
        databases: &databases,
        template: &template,
        ports: &ports,
    };
    let seats: Vec<SeatPlan> = workshop
        .participants
        .seats
        .iter()
        .take(seats_max(target.isolation))
        .map(|seat| seat_plan(workshop, seat, &surroundings))
        .collect();
    let routes = routes(&address, &seats);
    let secrets = secrets(&databases, &seats);
    let watched: BTreeSet<String> = workshop
        .exercises
        .iter()
        .flat_map(|exercise| exercise.files.iter().cloned())
        .collect();
    let first_file = workshop.content.first_file.clone().or_else(|| {
        workshop
            .exercises
            .iter()
            .find_map(|exercise| exercise.files.first().cloned())
    });
    let defaults = defaults(workshop, &template);
    Plan {
        event: workshop.event.clone(),
        title: workshop.title.clone(),
        address,
        isolation: target.isolation,
        template,
        services,
        databases,
        seats,
        routes,
        outbound: workshop.config.arena.seats.outbound.clone(),
        seat_memory_mib: workshop.config.arena.seats.memory_mib,
        editor_idle_minutes: workshop.config.arena.seats.editor_idle_minutes,
        watched: watched.into_iter().collect(),
        first_file,
        secrets,
        defaults,
    }
}

/// Seats that are not separated from each other would be one seat with several names.
fn seats_max(isolation: Isolation) -> usize {
    match isolation {
        Isolation::OwnUser | Isolation::SharedUser => usize::MAX,
        Isolation::None => 1,
    }
}

fn databases(workshop: &Workshop, target: &Target) -> DatabasesPlan {
    let keys = &workshop.config.scenario.database;
    let in_data = |endings: &[&str]| -> Vec<String> {
        let files = workshop
            .files
            .iter()
            .filter(|file| file.starts_with("arena/data/"));
        files
            .filter(|file| {
                let plain = file.strip_suffix(".gz").unwrap_or(file);
                endings.iter().any(|ending| plain.ends_with(ending))
            })
            .cloned()
            .collect()
    };
    let mongodb = keys.mongodb.then(|| MongodbPlan {
        source: target.mongodb.clone(),
        data: workshop
            .content
            .data
            .mongodb
            .clone()
            .unwrap_or_else(|| in_data(MONGODB_DATA))
            .into_iter()
            .filter(|file| workshop.config.mongodb.create_indexes || !file.ends_with(INDEXES))
            .collect(),
        create_indexes: workshop.config.mongodb.create_indexes,
        quota: quota(workshop),
    });
    let postgres = keys.has_postgres().then(|| PostgresPlan {
        source: target.postgres.clone(),
        data: workshop
            .content
            .data
            .postgres
            .clone()
            .unwrap_or_else(|| in_data(&[".sql", ".dump"])),
        extensions: workshop.config.arena.database.extensions.clone(),
        quota_bytes: quota(workshop).bytes,
    });
    let content = &workshop.content.data;
    let set = content.set.map(|name| DataSetPlan {
        name,
        seed: content.seed.unwrap_or(1),
        documents: content.documents,
    });
    let capabilities = capabilities(target, mongodb.as_ref(), postgres.as_ref());
    DatabasesPlan {
        mongodb,
        postgres,
        set,
        capabilities,
    }
}

fn quota(workshop: &Workshop) -> QuotaPlan {
    let keys = workshop.config.arena.quota;
    QuotaPlan {
        bytes: u64::from(keys.megabytes) * 1024 * 1024,
        documents: keys.documents.into(),
        collections: keys.collections.into(),
        indexes: keys.indexes.into(),
        connections: keys.connections,
        statement_seconds: keys.statement_seconds,
        commands_per_second: keys.commands_per_second,
    }
}

fn capabilities(
    target: &Target,
    mongodb: Option<&MongodbPlan>,
    postgres: Option<&PostgresPlan>,
) -> BTreeSet<Capability> {
    let mut capabilities = BTreeSet::new();
    if let Some(mongodb) = mongodb {
        let seen = target.mongodb_seen.clone();
        capabilities.extend(seen.unwrap_or_else(|| mongodb.source.capabilities()));
    }
    if let Some(postgres) = postgres {
        capabilities.extend(postgres.source.capabilities());
    }
    capabilities
}

fn template(workshop: &Workshop, target: &Target, ports: &Ports) -> TemplatePlan {
    let backend = workshop
        .config
        .scenario
        .backend
        .as_deref()
        .unwrap_or("server");
    let overlays = workshop
        .needed_answers
        .iter()
        .flat_map(|slug| answer_files(&workshop.files, slug, backend));
    let removed: BTreeSet<String> = REMOVED
        .iter()
        .map(|path| (*path).to_owned())
        .chain(workshop.content.removed.iter().cloned())
        .collect();
    TemplatePlan {
        content: target.content.clone(),
        repository: repository_name(workshop, &target.content),
        removed: removed.into_iter().collect(),
        overlays: overlays.collect(),
        node_version: workshop.content.node.unwrap_or(NODE_VERSION).to_string(),
        apps: AppKind::ALL
            .into_iter()
            .filter_map(|kind| app(workshop, kind, ports.app(kind)))
            .collect(),
    }
}

/// Returns the name of the work folder: the repository's, as pages and scripts name it.
fn repository_name(workshop: &Workshop, content: &Content) -> String {
    let source = match (content, &workshop.config.scenario.repository) {
        (Content::Repository { url, .. }, _) => url,
        (Content::Folder(_), Some(url)) => url,
        (Content::Folder(path), None) => path,
    };
    let last = source
        .trim_end_matches('/')
        .rsplit(['/', ':'])
        .next()
        .unwrap_or_default();
    let name: String = last
        .trim_end_matches(".git")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    if name.trim_matches(['.', '-']).is_empty() {
        "workshop".to_owned()
    } else {
        name.trim_start_matches(['.', '-']).to_owned()
    }
}

fn app(workshop: &Workshop, kind: AppKind, port: Option<u16>) -> Option<AppPlan> {
    let none = AppKeys::default();
    let said = workshop.content.apps.get(kind);
    let scenario = &workshop.config.scenario;
    let configured = match kind {
        AppKind::Backend => scenario.backend.as_deref(),
        AppKind::Frontend => scenario.frontend.as_deref(),
        AppKind::React | AppKind::Postgres => None,
    };
    let keys = said.unwrap_or(&none);
    let folder = keys
        .folder
        .as_deref()
        .or(configured)?
        .trim_end_matches('/')
        .to_owned();
    let has = |name: &str| workshop.files.contains(&format!("{folder}/{name}"));
    let is_static = kind == AppKind::Frontend;
    let prepare = match &keys.prepare {
        Some(commands) => commands.iter().map(|command| words(command)).collect(),
        None => npm_commands(
            has("package.json"),
            has("package-lock.json") || has("npm-shrinkwrap.json"),
            is_static,
        ),
    };
    let start = match &keys.start {
        Some(command) => Some(words(command)),
        None => (!is_static && has("package.json")).then(|| words("npm start")),
    };
    let static_folders = match (&keys.static_folders, is_static) {
        (Some(folders), _) => folders.clone(),
        (None, true) if has("package.json") => ["out", "dist", "build"].map(str::to_owned).to_vec(),
        (None, true) => vec![".".to_owned()],
        (None, false) => Vec::new(),
    };
    let env_file = env_file(workshop, kind, port, &keys.env);
    let start = start.filter(|_| keys.autostart.unwrap_or(true));
    Some(AppPlan {
        kind,
        folder,
        prepare,
        start,
        port,
        static_folders,
        env_file,
    })
}

/// Returns what npm does once for all seats.
fn npm_commands(has_package: bool, has_lock: bool, is_built: bool) -> Vec<Vec<String>> {
    if !has_package {
        return Vec::new();
    }
    let install = if has_lock {
        "npm ci"
    } else {
        "npm install --legacy-peer-deps"
    };
    let build = is_built.then(|| words("npm run build"));
    [words(install)].into_iter().chain(build).collect()
}

/// Splits a command into program and arguments. What only a shell understands is given to one.
fn words(command: &str) -> Vec<String> {
    if command.contains([
        '\'', '"', '\\', '$', '`', '&', '|', ';', '<', '>', '(', '*', '~', '\n',
    ]) {
        return ["/bin/sh", "-ec", command].map(str::to_owned).to_vec();
    }
    command.split_whitespace().map(str::to_owned).collect()
}

/// Returns the lines that the reference writes to an app's `.env` file.
fn env_file(
    workshop: &Workshop,
    kind: AppKind,
    port: Option<u16>,
    further: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let database = &workshop.config.scenario.database;
    let mut names: Vec<&str> = Vec::new();
    match kind {
        AppKind::Frontend | AppKind::React => names.extend(["WORKSHOP_USER", "BACKEND_URL"]),
        AppKind::Backend | AppKind::Postgres => {
            if database.mongodb {
                names.push("MONGODB_URI");
            }
            if database.has_postgres() {
                names.extend(["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"]);
            }
            names.push("DATABASE_NAME");
        }
    }
    let mut lines: BTreeMap<String, String> = names
        .into_iter()
        .map(|name| (name.to_owned(), format!("${{{name}}}")))
        .collect();
    lines.extend(port.map(|port| ("PORT".to_owned(), port.to_string())));
    lines.extend(
        further
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    lines
}

fn services(databases: &DatabasesPlan) -> Vec<ServicePlan> {
    let has_mongo = databases
        .mongodb
        .as_ref()
        .is_some_and(|mongodb| mongodb.source == MongodbSource::BuiltIn);
    let has_mongod = databases.mongodb.as_ref().is_some_and(|mongodb| {
        matches!(
            mongodb.source,
            MongodbSource::Mongod | MongodbSource::AtlasLocal
        )
    });
    let has_postgres = databases
        .postgres
        .as_ref()
        .is_some_and(|postgres| postgres.source == PostgresSource::BuiltIn);
    let kinds: [(ServiceKind, bool, &[ServiceKind]); 9] = [
        (ServiceKind::Engine, has_mongo, &[]),
        (ServiceKind::Mongo, has_mongo, &[ServiceKind::Engine]),
        (ServiceKind::Mongod, has_mongod, &[]),
        (ServiceKind::Postgres, has_postgres, &[]),
        (ServiceKind::Outbound, true, &[]),
        (
            ServiceKind::Control,
            true,
            &[
                ServiceKind::Mongo,
                ServiceKind::Mongod,
                ServiceKind::Postgres,
                ServiceKind::Outbound,
            ],
        ),
        (ServiceKind::Portal, true, &[ServiceKind::Control]),
        (ServiceKind::Instructions, true, &[]),
        (
            ServiceKind::Gateway,
            true,
            &[ServiceKind::Portal, ServiceKind::Instructions],
        ),
    ];
    let is_planned = |kind: &ServiceKind| {
        kinds
            .iter()
            .any(|(other, planned, _)| other == kind && *planned)
    };
    let planned = kinds
        .iter()
        .filter(|(_, planned, _)| *planned)
        .map(|(kind, _, after)| ServicePlan {
            name: kind.service_name(),
            kind: *kind,
            after: after
                .iter()
                .filter(|kind| is_planned(kind))
                .map(|kind| kind.service_name())
                .collect(),
        });
    planned.collect()
}

impl ServiceKind {
    /// Returns the service's name: there is one of each kind.
    fn service_name(self) -> ServiceName {
        let name = match self {
            Self::Engine => "engine",
            Self::Mongo => "mongo",
            Self::Mongod => "mongod",
            Self::Postgres => "postgres",
            Self::Outbound => "outbound",
            Self::Control => "control",
            Self::Portal => "portal",
            Self::Instructions => "instructions",
            Self::Gateway => "gateway",
        };
        ServiceName::new(name).expect("every name above is a label")
    }
}

fn seat_plan(workshop: &Workshop, seat: &Seat, surroundings: &Surroundings<'_>) -> SeatPlan {
    let Surroundings {
        address,
        databases,
        ports,
        ..
    } = surroundings;
    // Members of any other MongoDB have names and addresses of their own: see `Ways`.
    let mongodb = databases
        .mongodb
        .as_ref()
        .filter(|mongodb| mongodb.source == MongodbSource::BuiltIn);
    let postgres = &databases.postgres;
    let has_llm = workshop.config.scenario.llm.has_proxy();
    let forwards = [
        ("mongodb.sock", mongodb.map(|_| ports.mongodb)),
        ("postgres.sock", postgres.as_ref().map(|_| ports.postgres)),
        ("outbound.sock", ports.outbound),
        ("llm.sock", has_llm.then_some(ports.llm)),
    ];
    SeatPlan {
        id: seat.id.clone(),
        display_name: seat.person.as_ref().map_or_else(
            || seat.id.as_str().to_owned(),
            |person| person.display_name.clone(),
        ),
        listed: seat.person.is_some(),
        host: format!("{}.{}", seat.id, address.domain),
        editor_host: format!("{}--code.{}", seat.id, address.domain),
        authority: format!("{}.1.invalid", seat.id),
        database: DatabaseName::from(&seat.id),
        environment: environment(workshop, &seat.id, surroundings),
        forwards: forwards
            .into_iter()
            .filter_map(|(socket, port)| {
                Some(Forward {
                    socket: socket.to_owned(),
                    address: Ipv4Addr::LOCALHOST.into(),
                    port: port?,
                })
            })
            .collect(),
    }
}

fn routes(address: &Address, seats: &[SeatPlan]) -> Vec<RoutePlan> {
    let domain = &address.domain;
    let below = |name: &str| format!("{name}.{domain}");
    let mut routes = vec![RoutePlan {
        host: domain.clone(),
        surface: Surface::Portal,
    }];
    routes.extend(["www", "portal", "participants"].map(|name| RoutePlan {
        host: below(name),
        surface: Surface::Portal,
    }));
    routes.push(RoutePlan {
        host: below("instructions"),
        surface: Surface::Instructions,
    });
    for seat in seats {
        routes.push(RoutePlan {
            host: seat.host.clone(),
            surface: Surface::SeatApps(seat.id.clone()),
        });
        routes.push(RoutePlan {
            host: seat.editor_host.clone(),
            surface: Surface::SeatEditor(seat.id.clone()),
        });
    }
    routes
}

fn secrets(databases: &DatabasesPlan, seats: &[SeatPlan]) -> BTreeSet<SecretName> {
    let mongodb = databases.mongodb.as_ref().map(|mongodb| &mongodb.source);
    let postgres = databases.postgres.as_ref().map(|postgres| &postgres.source);
    let mut secrets = BTreeSet::new();
    if mongodb == Some(&MongodbSource::Uri) {
        secrets.insert(SecretName("mongodb-uri".to_owned()));
    }
    if mongodb.is_some_and(|source| *source != MongodbSource::BuiltIn) {
        secrets.extend(
            seats
                .iter()
                .map(|seat| SecretName::seat_mongodb_uri(&seat.id)),
        );
    }
    if postgres == Some(&PostgresSource::Uri) {
        secrets.insert(SecretName("postgres-uri".to_owned()));
    }
    if mongodb.is_some() || postgres.is_some() {
        secrets.extend(seats.iter().map(|seat| SecretName::seat_database(&seat.id)));
    }
    secrets
}

fn defaults(workshop: &Workshop, template: &TemplatePlan) -> BTreeMap<String, String> {
    let mut defaults = workshop.defaults.clone();
    if workshop.content.node.is_none() {
        defaults.insert("node".to_owned(), template.node_version.clone());
    }
    for app in &template.apps {
        let said = workshop.content.apps.get(app.kind);
        let key = |name: &str| format!("apps.{}.{name}", app.kind.as_str());
        if said.is_none_or(|said| said.prepare.is_none()) && !app.prepare.is_empty() {
            let commands: Vec<String> = app
                .prepare
                .iter()
                .map(|command| command.join(" "))
                .collect();
            defaults.insert(key("prepare"), commands.join(", "));
        }
        if let (true, Some(start)) = (said.is_none_or(|said| said.start.is_none()), &app.start) {
            defaults.insert(key("start"), start.join(" "));
        }
        if said.is_none_or(|said| said.static_folders.is_none()) && !app.static_folders.is_empty() {
            defaults.insert(key("static"), app.static_folders.join(", "));
        }
    }
    defaults.insert("home".to_owned(), format!("{HOME}/{}", template.repository));
    defaults
}
