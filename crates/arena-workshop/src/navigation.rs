//! The instructions' navigation and the scenario's filter over it.
//!
//! A navigation file (`docs/_data/*.yml`) lists sections of pages. The
//! scenario shows all of them, or the sections and pages that it names. Which
//! exercises exist follows from what is left: a page `/{section}/{n}/` is the
//! exercise `{section}-{n}`, a page `/{section}/index/` is `{section}-index`.
//! Begin at [`parse`], then [`Navigation::filter`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ExerciseSlug;
use crate::config::Section as Wanted;
use crate::participants::label;
use crate::source::{Problem, Problems, Severity, SourceFile, Span};
use crate::yaml::{self, Node, Value, nearest};

/// Pages of the instructions, in order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Navigation {
    /// The sections.
    pub sections: Vec<NavigationSection>,
}

/// Pages under one heading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NavigationSection {
    /// The heading.
    pub title: String,
    /// The pages.
    pub pages: Vec<Page>,
}

/// A page of the instructions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// As the navigation shows it.
    pub title: String,
    /// Address such as `/crud/1/`, or of another site.
    pub url: String,
}

impl Page {
    /// Returns the exercise that this page tells; `None` for other pages, hints among them.
    pub fn exercise(&self) -> Option<ExerciseSlug> {
        let path = self
            .url
            .split(['#', '?'])
            .next()?
            .strip_prefix('/')?
            .strip_suffix('/')?;
        let (section, page) = path.split_once('/')?;
        let is_exercise =
            page == "index" || (!page.is_empty() && page.bytes().all(|byte| byte.is_ascii_digit()));
        let is_plain = !section.is_empty() && label(section) == section;
        if is_exercise && is_plain {
            ExerciseSlug::new(format!("{section}-{page}")).ok()
        } else {
            None
        }
    }
}

impl Navigation {
    /// Returns all pages in order.
    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        self.sections.iter().flat_map(|section| &section.pages)
    }

    /// Returns the exercises that are listed, in order, each with its page.
    pub fn exercises(&self) -> Vec<(ExerciseSlug, &Page)> {
        let mut seen = BTreeSet::new();
        let exercises = self
            .pages()
            .filter_map(|page| page.exercise().map(|slug| (slug, page)));
        exercises
            .filter(|(slug, _)| seen.insert(slug.clone()))
            .collect()
    }

    /// Returns what the scenario shows. No wanted sections: everything. A wanted section without
    /// pages: the whole section. Else those pages, the hint page of each, and the section's first
    /// page (`/crud/` for `/crud/2/`). The order is the navigation's.
    #[must_use]
    pub fn filter(&self, wanted: &[Wanted]) -> Self {
        if wanted.is_empty() {
            return self.clone();
        }
        let mut sections = Vec::new();
        for section in &self.sections {
            let asked: Vec<&Wanted> = wanted
                .iter()
                .filter(|wanted| wanted.title == section.title)
                .collect();
            let pages: Vec<Page> = match asked.as_slice() {
                [] => continue,
                asked if asked.iter().any(|asked| asked.content.is_empty()) => {
                    section.pages.clone()
                }
                asked => {
                    let urls: Vec<&str> = asked
                        .iter()
                        .flat_map(|asked| asked.content.iter().map(String::as_str))
                        .collect();
                    section
                        .pages
                        .iter()
                        .filter(|page| is_shown(&page.url, &urls))
                        .cloned()
                        .collect()
                }
            };
            if !pages.is_empty() {
                sections.push(NavigationSection {
                    title: section.title.clone(),
                    pages,
                });
            }
        }
        Self { sections }
    }
}

/// Whether a page is one of those asked for, the hint of one, or the first page of their section.
fn is_shown(url: &str, asked: &[&str]) -> bool {
    let first_page = asked
        .first()
        .and_then(|asked| asked.split('/').nth(1))
        .map(|section| format!("/{section}/"));
    let is_hint_of = |asked: &str| {
        let stem = asked.trim_end_matches('/');
        url.strip_prefix(stem)
            .is_some_and(|rest| rest == "/hint/" || rest == "-hint/")
    };
    asked.iter().any(|asked| url == *asked || is_hint_of(asked))
        || first_page.as_deref() == Some(url)
}

/// Reads a navigation file. Liberal where the theme is: other top-level lists are left alone, a
/// section may be a page itself, children may nest. `None` when there was an error.
pub fn parse(file: &SourceFile, problems: &mut Problems) -> Option<Navigation> {
    let before = problems.len();
    let root = yaml::parse(file, problems)?;
    let docs = match (root.get("docs"), &root.value) {
        (Some(docs), _) => docs,
        (None, Value::Sequence(_)) => &root,
        (None, _) => {
            let hint = match nearest_key(&root, "docs") {
                Some(entry) => format!("did you mean `docs` where `{entry}` stands?"),
                None => "write `docs:` and below it a list of sections, each with `title` and `children`".to_owned(),
            };
            problems.push(
                file.error(root.span, "the navigation has no `docs`")
                    .hint(hint),
            );
            return None;
        }
    };
    if !matches!(docs.value, Value::Sequence(_)) && !docs.is_null() {
        let hint = "write a list below it: `- title: …` and `children:`";
        problems.push(
            file.error(
                root.find_key(&["docs"]),
                "`docs` must be a list of sections",
            )
            .hint(hint),
        );
        return None;
    }
    let mut reader = Reader {
        file,
        problems,
        urls: BTreeSet::new(),
    };
    let sections = docs
        .items()
        .iter()
        .filter_map(|section| reader.section(section))
        .collect();
    let is_clean = problems
        .iter()
        .skip(before)
        .all(|problem| problem.severity != Severity::Error);
    is_clean.then_some(Navigation { sections })
}

fn nearest_key<'a>(node: &'a Node, wanted: &str) -> Option<&'a str> {
    node.entries()
        .iter()
        .map(|entry| entry.key.as_str())
        .find(|key| nearest(key, [wanted]).is_some())
}

struct Reader<'a> {
    file: &'a SourceFile,
    problems: &'a mut Problems,
    urls: BTreeSet<String>,
}

impl Reader<'_> {
    fn error(&mut self, span: Span, message: &str, hint: &str) {
        self.problems
            .push(self.file.error(span, message).hint(hint));
    }

    fn section(&mut self, node: &Node) -> Option<NavigationSection> {
        self.known_keys(node, &["title", "children"]);
        let title = self.title(node, "a section needs a `title`")?;
        let mut pages = Vec::new();
        if node.get("url").is_some() {
            pages.extend(self.page(node));
        }
        self.children(node, &mut pages);
        Some(NavigationSection { title, pages })
    }

    fn children(&mut self, node: &Node, pages: &mut Vec<Page>) {
        let Some(children) = node.get("children").filter(|children| !children.is_null()) else {
            return;
        };
        if !matches!(children.value, Value::Sequence(_)) {
            let span = node.find_key(&["children"]);
            return self.error(
                span,
                "`children` must be a list of pages",
                "write `- title: …` and `url: …` below it",
            );
        }
        for child in children.items() {
            if child.get("url").is_some() || child.get("children").is_none() {
                pages.extend(self.page(child));
            }
            self.children(child, pages);
        }
    }

    fn page(&mut self, node: &Node) -> Option<Page> {
        self.known_keys(node, &["title", "url"]);
        let title = self.title(node, "a page needs a `title`")?;
        let Some(url) = node.get("url").and_then(Node::text) else {
            self.error(
                node.find(&["title"]),
                "a page needs a `url`",
                "add `url: /…/`, the permalink of the page",
            );
            return None;
        };
        let span = node.find(&["url"]);
        let is_elsewhere = url.starts_with("https://") || url.starts_with("http://");
        if !url.starts_with('/') && !is_elsewhere {
            let hint = format!(
                "write `/{}/`, the permalink of the page",
                url.trim_matches('/')
            );
            self.error(span, "the address of a page begins with `/`", &hint);
            return None;
        }
        if !self.urls.insert(url.to_owned()) {
            let problem = self.file.problem(
                Severity::Warning,
                span,
                format!("the page `{url}` is listed twice"),
            );
            self.problems.push(problem);
        }
        Some(Page {
            title,
            url: url.to_owned(),
        })
    }

    fn title(&mut self, node: &Node, missing: &str) -> Option<String> {
        match node.get("title").and_then(Node::text).map(str::trim) {
            Some(title) if !title.is_empty() => Some(title.to_owned()),
            _ => {
                self.error(node.find(&["title"]), missing, "add `title: …`");
                None
            }
        }
    }

    /// Warns about keys that look like a known one; others may be the theme's.
    fn known_keys(&mut self, node: &Node, known: &[&str]) {
        for entry in node.entries() {
            let is_known = ["title", "url", "children"].contains(&entry.key.as_str());
            if let (false, Some(meant)) = (is_known, nearest(&entry.key, known.iter().copied())) {
                let problem = self.file.problem(
                    Severity::Warning,
                    entry.key_span,
                    format!("unknown key `{}`", entry.key),
                );
                self.problems
                    .push(problem.hint(format!("did you mean `{meant}`?")));
            }
        }
    }
}

/// Says which wanted sections and pages the navigation does not have. The system that Arena
/// replaces left them out silently, so they are warnings; only when nothing is left it is an error.
pub(crate) fn check_wanted(
    file: &SourceFile,
    node: &Node,
    wanted: &[Wanted],
    navigation: &Navigation,
    problems: &mut Problems,
) {
    let warn = |path: &[&str], message: String, hint: String| -> Problem {
        file.problem(Severity::Warning, node.find(path), message)
            .hint(hint)
    };
    for (number, wanted) in wanted.iter().enumerate() {
        let number = number.to_string();
        let sections = ["scenario", "instructions", "sections", &number];
        let Some(section) = navigation
            .sections
            .iter()
            .find(|section| section.title == wanted.title)
        else {
            let titles: Vec<&str> = navigation
                .sections
                .iter()
                .map(|section| section.title.as_str())
                .collect();
            let hint = match nearest(&wanted.title, titles.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("sections there: {}", titles.join(", ")),
            };
            let path = [&sections[..], &["title"]].concat();
            problems.push(warn(
                &path,
                format!("the navigation has no section `{}`", wanted.title),
                hint,
            ));
            continue;
        };
        for (index, url) in wanted.content.iter().enumerate() {
            if section.pages.iter().all(|page| page.url != *url) {
                let hint = match nearest(url, section.pages.iter().map(|page| page.url.as_str())) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "write the address as it stands in the navigation".to_owned(),
                };
                let index = index.to_string();
                let path = [&sections[..], &["content", &index]].concat();
                problems.push(warn(
                    &path,
                    format!("the section `{}` has no page `{url}`", wanted.title),
                    hint,
                ));
            }
        }
    }
    if navigation.filter(wanted).sections.is_empty() && !navigation.sections.is_empty() {
        let problem = file.error(
            node.find_key(&["scenario", "instructions", "sections"]),
            "no section of the navigation is left",
        );
        problems.push(
            problem.hint("name sections as the navigation does, or write `sections: []` for all"),
        );
    }
}
