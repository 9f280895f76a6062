//! Instructions: a workshop's `docs/` becomes a finished site, in memory.
//!
//! Pure and synchronous: the caller hands in the files and the navigation that the scenario
//! shows, and gets pages, assets and a list of what authors should mend. Nothing an author
//! brings is run; raw HTML in Markdown is passed on, because authors are trusted. What
//! participants cause (marks, messages) is painted in the browser by `assets/site.js` as text.
//!
//! Begin at [`build`]. A page's source text is cut and cleaned in `source`, turned to HTML in
//! `markdown`, its links are resolved in `links`, and `theme` puts the frame around it.

mod links;
mod markdown;
mod source;
mod theme;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use arena_workshop::{ExerciseSlug, Problem, Problems, Severity, SourceFile};

use crate::links::Links;
use crate::source::PageSource;

/// What the server of the site should send as `content-security-policy`, without
/// `frame-ancestors`, which it knows better. Scripts and styles are files of the site.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    style-src-attr 'unsafe-inline'; img-src 'self' data: https:; media-src 'self' https:; font-src 'self'; \
    connect-src 'self'; form-action 'none'; base-uri 'none'";

/// Everything that a site is made of.
#[derive(Debug, Clone, Default)]
pub struct SiteSources {
    /// The workshop's title.
    pub title: String,
    /// Every file below `docs/`, by its path there, `/`-separated, such as `mongodb/1.md`.
    /// The name inside is how problems call it.
    pub files: BTreeMap<String, SourceFile>,
    /// The navigation after the scenario's filter. Empty: every page, in order of address.
    pub sections: Vec<Section>,
    /// The exercises that the scenario lists and has a page for.
    pub exercises: Vec<SiteExercise>,
    /// Address of the portal, such as `http://arena.localhost:8080`, for the way back.
    pub portal: Option<String>,
}

/// A part of the navigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Shown above its pages.
    pub title: String,
    /// In order.
    pub pages: Vec<SectionPage>,
}

/// A page in the navigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionPage {
    /// Shown in the navigation.
    pub title: String,
    /// Such as `/mongodb/1/`, or an address of another site.
    pub url: String,
}

/// What a page shows of its exercise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteExercise {
    /// Such as `mongodb-1`.
    pub slug: ExerciseSlug,
    /// The exercise's title.
    pub title: String,
    /// The page that tells it, such as `/mongodb/1/`.
    pub page: String,
    /// Files that the participant edits.
    pub files: Vec<String>,
    /// Markdown of each hint, with the number of failed attempts that opens it.
    pub hints: Vec<(u32, String)>,
    /// Whether anything is verified. Where nothing is, the participant marks it as done, for
    /// themselves.
    pub has_checks: bool,
    /// What it needs and this event does not have, such as `PostgreSQL`: its panel says so in place
    /// of a button. Empty for all others.
    pub missing: Vec<String>,
}

/// A finished site.
#[derive(Debug, Clone)]
pub struct Site {
    pages: BTreeMap<String, Page>,
    /// What authors should mend: warnings such as links to nowhere, with file and line.
    pub notes: Problems,
}

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Such as `text/html; charset=utf-8`.
    pub content_type: &'static str,
    /// The bytes.
    pub body: Vec<u8>,
    /// For `etag` and `if-none-match`, with its quotes.
    pub etag: String,
}

impl Site {
    /// Returns what is at a path such as `/mongodb/1/`, `/mongodb/1` or `/images/map.png`.
    /// The path is decoded (no `%20`) and has no query.
    pub fn page(&self, path: &str) -> Option<&Page> {
        self.pages
            .get(path)
            .or_else(|| self.pages.get(&links::as_folder(path)))
    }

    /// Returns every path, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.pages.keys().map(String::as_str)
    }
}

impl Page {
    fn new(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        // Not a matter of security: an author's own pages never attack their own cache.
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Self {
            content_type,
            etag: format!("\"{:016x}\"", hasher.finish()),
            body,
        }
    }
}

/// Makes a site.
///
/// # Errors
/// When there is no page at all, or two pages want one address: there is no telling which is
/// meant. Everything else is a warning in [`Site::notes`], and the site is there.
pub fn build(sources: &SiteSources) -> Result<Site, Problems> {
    let mut notes = Problems::default();
    let mut pages = read_pages(sources, &mut notes)?;
    let sections = sections(sources, &pages);
    let links = Links::new(sources, &pages);
    unknown_pages(&sections, &links, &mut notes);

    let mut site = BTreeMap::new();
    for (path, file) in &sources.files {
        if !source::is_page(path) && !path.starts_with('_') {
            site.insert(
                format!("/{path}"),
                Page::new(content_type(path), file.bytes.clone()),
            );
        }
    }
    for (path, content_type, body) in theme::ASSETS {
        site.insert((*path).to_owned(), Page::new(content_type, *body));
    }
    if !pages.iter().any(|page| page.url == "/") {
        pages.push(theme::contents(&sources.title, &sections, &links));
    }
    for page in &pages {
        let content = markdown::render(page, &links, &mut notes);
        let html = theme::page(sources, &sections, page, &content, &links);
        site.insert(
            page.url.clone(),
            Page::new("text/html; charset=utf-8", html),
        );
    }
    Ok(Site { pages: site, notes })
}

fn read_pages(sources: &SiteSources, notes: &mut Problems) -> Result<Vec<PageSource>, Problems> {
    let mut pages: Vec<PageSource> = Vec::new();
    let mut errors = Problems::default();
    for (path, file) in sources
        .files
        .iter()
        .filter(|(path, _)| source::is_page(path))
    {
        let Some(page) = source::read(path, file, notes) else {
            continue;
        };
        if let Some(other) = pages.iter().find(|other| other.url == page.url) {
            let message = format!("the address {} is taken by {}", page.url, other.file.name);
            errors.push(
                page.problem(Severity::Error, page.permalink_line, "", message)
                    .hint("give each page a `permalink` of its own"),
            );
        }
        pages.push(page);
    }
    if pages.is_empty() {
        errors.push(Problem {
            severity: Severity::Error,
            file: "docs".to_owned(),
            span: None,
            excerpt: None,
            message: "there is no page in docs/".to_owned(),
            hint: Some("write docs/index.md".to_owned()),
        });
    }
    if errors.has_errors() {
        Err(errors)
    } else {
        Ok(pages)
    }
}

/// The navigation to show: the scenario's, else every page.
fn sections(sources: &SiteSources, pages: &[PageSource]) -> Vec<Section> {
    if sources.sections.is_empty() {
        let mut all: Vec<_> = pages
            .iter()
            .map(|page| SectionPage {
                title: page.title.clone(),
                url: page.url.clone(),
            })
            .collect();
        all.sort_by(|a, b| a.url.cmp(&b.url));
        return vec![Section {
            title: sources.title.clone(),
            pages: all,
        }];
    }
    let mut sections = sources.sections.clone();
    for page in sections.iter_mut().flat_map(|section| &mut section.pages) {
        if !links::is_outside(&page.url) {
            page.url = links::as_folder(page.url.split(['#', '?']).next().unwrap_or_default());
        }
    }
    sections
}

fn unknown_pages(sections: &[Section], links: &Links<'_>, notes: &mut Problems) {
    for page in sections
        .iter()
        .flat_map(|section| &section.pages)
        .filter(|page| !links.is_listed(&page.url))
    {
        notes.push(Problem {
            severity: Severity::Warning,
            file: String::new(),
            span: None,
            excerpt: None,
            message: format!(
                "the navigation lists {}, but no page has that address",
                page.url
            ),
            hint: Some(format!(
                "write a page with `permalink: {}`, or take it out of the navigation",
                page.url
            )),
        });
    }
}

fn content_type(path: &str) -> &'static str {
    let extension = path
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("txt" | "csv" | "sql" | "yaml" | "yml") => "text/plain; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("avif") => "image/avif",
        Some("ico") => "image/x-icon",
        Some("pdf") => "application/pdf",
        Some("mp4") => "video/mp4",
        Some("webm") => "video/webm",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}
