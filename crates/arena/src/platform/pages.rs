//! What the portal is told: the workshop's exercises, board and instructions.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use arena_portal::{ExerciseEntry, Language, Prizes, Settings, StaticPage, StaticPages};
use arena_site::{Section, SectionPage, Site, SiteExercise, SiteSources};
use arena_store::Store;
use arena_workshop::plan::AppKind;
use arena_workshop::{Plan, SourceFile, Workshop};
use bytes::Bytes;

use crate::failure::Failure;
use crate::folder::Folder;
use crate::platform::Prepared;

/// Returns the portal's settings.
pub(crate) fn settings(prepared: &Prepared, store: &Store) -> Result<Settings, Failure> {
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
        language: Language::default(),
        exercises: workshop
            .exercises
            .iter()
            .map(|exercise| ExerciseEntry {
                slug: exercise.slug.clone(),
                title: exercise.title.clone(),
                page: exercise.page.clone(),
            })
            .collect(),
        scoring: scenario.leaderboard.r#type,
        prizes: prizes(workshop),
        app_path: app_path(plan),
        instructions_path: first,
        instructions: pages(site),
        store: store.clone(),
    })
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
