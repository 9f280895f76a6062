//! The frame around a page's content: our own theme, with the files it needs. The HTML is the
//! same for every reader; marks and messages are painted by `assets/site.js`.

use askama::Template;

use arena_workshop::SourceFile;

use crate::links::{self, Links};
use crate::markdown::{self, Content, Heading};
use crate::source::PageSource;
use crate::{Section, SiteExercise, SiteSources};

/// Path, content type and bytes of the theme's files.
pub(crate) const ASSETS: &[(&str, &str, &[u8])] = &[
    (
        "/_site/site.css",
        "text/css; charset=utf-8",
        include_bytes!("../assets/site.css"),
    ),
    (
        "/_site/early.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../assets/early.js"),
    ),
    (
        "/_site/site.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../assets/site.js"),
    ),
    (
        "/_site/icon.svg",
        "image/svg+xml",
        include_bytes!("../assets/icon.svg"),
    ),
];

#[derive(Template)]
#[template(path = "page.html")]
struct Frame<'a> {
    site: &'a str,
    title: &'a str,
    portal: Option<&'a str>,
    section: Option<&'a str>,
    sections: Vec<NavSection<'a>>,
    content: &'a str,
    needs_heading: bool,
    headings: &'a [Heading],
    exercises: Vec<ExercisePanel<'a>>,
    previous: Option<Step<'a>>,
    next: Option<Step<'a>>,
}

struct NavSection<'a> {
    title: &'a str,
    has_exercises: bool,
    pages: Vec<NavPage<'a>>,
}

struct NavPage<'a> {
    title: &'a str,
    url: &'a str,
    is_current: bool,
    is_outside: bool,
    exercise: Option<&'a str>,
}

struct ExercisePanel<'a> {
    slug: &'a str,
    title: &'a str,
    files: &'a [String],
    hints: Vec<HintPanel>,
    has_checks: bool,
    missing: String,
}

struct HintPanel {
    number: usize,
    after: u32,
    html: String,
}

#[derive(Clone, Copy)]
struct Step<'a> {
    title: &'a str,
    url: &'a str,
}

/// Returns the whole page.
pub(crate) fn page(
    sources: &SiteSources,
    sections: &[Section],
    page: &PageSource,
    content: &Content,
    links: &Links<'_>,
) -> String {
    let steps: Vec<Step<'_>> = sections
        .iter()
        .flat_map(|section| &section.pages)
        .filter(|step| links.is_listed(&step.url) && !links::is_outside(&step.url))
        .map(|step| Step {
            title: &step.title,
            url: &step.url,
        })
        .collect();
    let here = steps.iter().position(|step| step.url == page.url);
    let at = |index: Option<usize>| index.and_then(|index| steps.get(index)).copied();
    let frame = Frame {
        site: &sources.title,
        title: &page.title,
        portal: sources.portal.as_deref(),
        section: section_of(sections, &page.url).filter(|section| *section != page.title),
        sections: sections
            .iter()
            .map(|section| nav_section(sources, section, page, links))
            .collect(),
        content: &content.html,
        needs_heading: !content.html.contains("<h1"),
        headings: &content.headings,
        exercises: exercises_of(sources, &page.url)
            .map(|exercise| panel(page, exercise))
            .collect(),
        previous: at(here.and_then(|index| index.checked_sub(1))),
        next: at(here.map(|index| index + 1)),
    };
    frame.render().expect("the template only writes to memory")
}

/// Returns the front page of a site that has none: its contents.
pub(crate) fn contents(title: &str, sections: &[Section], links: &Links<'_>) -> PageSource {
    let mut text = String::new();
    for section in sections {
        text.push_str(&format!("\n## {}\n\n", section.title));
        for page in section
            .pages
            .iter()
            .filter(|page| links.is_listed(&page.url))
        {
            text.push_str(&format!("- [{}]({})\n", page.title, page.url));
        }
    }
    PageSource {
        file: SourceFile::new("docs", text.clone()),
        path: String::new(),
        url: "/".to_owned(),
        title: title.to_owned(),
        text,
        lines_before: 0,
        permalink_line: 1,
    }
}

fn section_of<'a>(sections: &'a [Section], url: &str) -> Option<&'a str> {
    let section = sections
        .iter()
        .find(|section| section.pages.iter().any(|page| page.url == url));
    section.map(|section| section.title.as_str())
}

fn exercises_of<'a>(sources: &'a SiteSources, url: &str) -> impl Iterator<Item = &'a SiteExercise> {
    sources
        .exercises
        .iter()
        .filter(move |exercise| links::as_folder(&exercise.page) == url)
}

fn nav_section<'a>(
    sources: &'a SiteSources,
    section: &'a Section,
    page: &PageSource,
    links: &Links<'_>,
) -> NavSection<'a> {
    let pages: Vec<NavPage<'a>> = section
        .pages
        .iter()
        .filter(|other| links.is_listed(&other.url))
        .map(|other| NavPage {
            title: &other.title,
            url: &other.url,
            is_current: other.url == page.url,
            is_outside: links::is_outside(&other.url),
            exercise: exercises_of(sources, &other.url)
                .find(|exercise| exercise.missing.is_empty())
                .map(|exercise| exercise.slug.as_str()),
        })
        .collect();
    NavSection {
        title: &section.title,
        has_exercises: pages.iter().any(|page| page.exercise.is_some()),
        pages,
    }
}

fn panel<'a>(page: &PageSource, exercise: &'a SiteExercise) -> ExercisePanel<'a> {
    let hints = exercise
        .hints
        .iter()
        .zip(1..)
        .map(|((after, text), number)| HintPanel {
            number,
            after: *after,
            html: markdown::snippet(page, text),
        });
    ExercisePanel {
        slug: exercise.slug.as_str(),
        title: &exercise.title,
        files: &exercise.files,
        hints: hints.collect(),
        has_checks: exercise.has_checks,
        missing: exercise.missing.join(", "),
    }
}
