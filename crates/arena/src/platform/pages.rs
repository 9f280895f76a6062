//! What the portal is told: the workshop's exercises, board and instructions.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use arena_portal::{
    DatabaseAccess, ExerciseEntry, Language, Prizes, SeatDatabases, Settings, StaticPage,
    StaticPages,
};
use arena_site::{Section, SectionPage, Site, SiteExercise, SiteSources};
use arena_store::Store;
use arena_workshop::config::{self, JoinMode};
use arena_workshop::plan::{AppKind, Isolation, PostgresConnection};
use arena_workshop::{Exercise, Plan, SourceFile, Workshop};
use bytes::Bytes;

use crate::failure::Failure;
use crate::folder::Folder;
use crate::platform::Prepared;
use crate::platform::logins::Logins;

/// Returns the portal's settings.
pub(crate) fn settings(
    prepared: &Prepared,
    logins: &Logins,
    store: &Store,
) -> Result<Settings, Failure> {
    let Prepared {
        workshop,
        plan,
        folder,
        ..
    } = prepared;
    let site = Arc::new(site(workshop, plan, folder)?);
    let scenario = &workshop.config.scenario;
    let first = workshop
        .navigation
        .pages()
        .find(|page| page.url.starts_with('/'))
        .map_or_else(|| "/".to_owned(), |page| page.url.clone());
    Ok(Settings {
        event: plan.event.clone(),
        title: workshop.title.clone(),
        address: plan.address.clone(),
        language: match workshop.config.arena.languages.first() {
            Some(config::Language::Es) => Language::Spanish,
            Some(config::Language::En) | None => Language::English,
        },
        exercises: workshop
            .exercises
            .iter()
            .map(|exercise| ExerciseEntry {
                slug: exercise.slug.clone(),
                title: exercise.title.clone(),
                page: exercise.page.clone(),
                missing: missing(plan, exercise),
            })
            .collect(),
        joins_by_code: workshop.config.arena.join.contains(&JoinMode::Code),
        scoring: scenario.leaderboard.r#type,
        prizes: prizes(workshop),
        app_path: app_path(plan),
        instructions_path: first,
        is_separated: plan.isolation != Isolation::None,
        instructions: pages(site),
        databases: databases(logins.clone()),
        store: store.clone(),
    })
}

/// Returns what the seat page shows of databases: what the seat's own environment says, so that a
/// line that is copied from the page works in the seat's terminal.
fn databases(logins: Logins) -> SeatDatabases {
    Arc::new(move |seat| {
        // Seats run with these settings, so they can be made.
        let settings = logins.seat(seat).map(|seat| logins.settings(&seat));
        match settings {
            Some(Ok(settings)) => accesses(&settings.environment),
            _ => Vec::new(),
        }
    })
}

fn accesses(environment: &BTreeMap<String, String>) -> Vec<DatabaseAccess> {
    let value = |name: &str| environment.get(name).map(String::as_str);
    let mongodb = value("MONGODB_URI").map(|uri| DatabaseAccess::Mongodb {
        uri: uri.to_owned(),
    });
    let postgres = || {
        let port = value("PGPORT")?.parse().ok()?;
        let (database, password) = (value("PGDATABASE")?, value("PGPASSWORD")?);
        let own = PostgresConnection::new(value("PGHOST")?, port, database, password, None);
        Some(DatabaseAccess::Postgres {
            uri: own.uri,
            jdbc: own.jdbc,
        })
    };
    mongodb.into_iter().chain(postgres()).collect()
}

fn prizes(workshop: &Workshop) -> Option<Prizes> {
    let prizes = workshop
        .config
        .scenario
        .leaderboard
        .prizes
        .as_ref()
        .filter(|prizes| prizes.enabled)?;
    Some(Prizes {
        place: prizes.r#where.clone().unwrap_or_default(),
        time: prizes.when.clone().unwrap_or_default(),
    })
}

/// The front end where there is one, else the back end.
fn app_path(plan: &Plan) -> Option<String> {
    let has = |kind| plan.template.apps.iter().any(|app| app.kind == kind);
    [
        (AppKind::Frontend, "/app/"),
        (AppKind::Backend, "/backend/"),
    ]
    .into_iter()
    .find(|(kind, _)| has(*kind))
    .map(|(_, path)| path.to_owned())
}

fn pages(site: Arc<Site>) -> StaticPages {
    Arc::new(move |path| {
        let page = site.page(path)?;
        Some(StaticPage {
            content_type: page.content_type.to_owned(),
            body: Bytes::from(page.body.clone()),
            etag: page.etag.clone(),
        })
    })
}

/// Returns what an exercise needs and the event does not have.
fn missing(plan: &Plan, exercise: &Exercise) -> Vec<String> {
    let missing = plan.databases.missing(exercise).into_iter();
    missing
        .map(|capability| capability.title().to_owned())
        .collect()
}

/// Builds the instructions from the folder's `docs/`.
///
/// # Errors
/// When a file cannot be read, or a page is broken; every mistake is printed.
pub(crate) fn site(workshop: &Workshop, plan: &Plan, folder: &Folder) -> Result<Site, Failure> {
    let mut files = BTreeMap::new();
    for path in folder
        .sources
        .files
        .iter()
        .filter_map(|path| path.strip_prefix("docs/"))
    {
        let whole = folder.path.join("docs").join(path);
        let bytes = std::fs::read(&whole)
            .with_context(|| format!("cannot read {}", whole.display()))
            .map_err(Failure::environment)?;
        files.insert(
            path.to_owned(),
            SourceFile::new(format!("docs/{path}"), bytes),
        );
    }
    let sections = workshop.navigation.sections.iter().map(|section| Section {
        title: section.title.clone(),
        pages: section
            .pages
            .iter()
            .map(|page| SectionPage {
                title: page.title.clone(),
                url: page.url.clone(),
            })
            .collect(),
    });
    let exercises = workshop.exercises.iter().filter_map(|exercise| {
        Some(SiteExercise {
            slug: exercise.slug.clone(),
            title: exercise.title.clone(),
            page: exercise.page.clone()?,
            files: exercise.files.clone(),
            hints: exercise
                .hints
                .iter()
                .map(|hint| (hint.after_attempts, hint.text.clone()))
                .collect(),
            has_checks: !exercise.checks.is_empty(),
            missing: missing(plan, exercise),
        })
    });
    let sources = SiteSources {
        title: workshop.title.clone(),
        files,
        sections: sections.collect(),
        exercises: exercises.collect(),
        portal: Some(plan.address.origin(&plan.address.domain)),
    };
    arena_site::build(&sources).map_err(|problems| Failure::problems(&problems))
}
