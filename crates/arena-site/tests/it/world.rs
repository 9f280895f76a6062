//! The one helper that knows the front.

use arena_site::{Section, SectionPage, Site, SiteExercise, SiteSources, build};
use arena_workshop::{ExerciseSlug, Problems, SourceFile};

/// A workshop's docs in the making.
#[derive(Default)]
pub(crate) struct World(SiteSources);

impl World {
    pub(crate) fn new() -> Self {
        Self(SiteSources {
            title: "Harbour".to_owned(),
            ..SiteSources::default()
        })
    }

    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.bytes(path, text.as_bytes())
    }

    pub(crate) fn bytes(mut self, path: &str, bytes: &[u8]) -> Self {
        self.0.files.insert(
            path.to_owned(),
            SourceFile::new(format!("docs/{path}"), bytes),
        );
        self
    }

    pub(crate) fn section(mut self, title: &str, pages: &[(&str, &str)]) -> Self {
        let pages = pages.iter().map(|(title, url)| SectionPage {
            title: (*title).to_owned(),
            url: (*url).to_owned(),
        });
        self.0.sections.push(Section {
            title: title.to_owned(),
            pages: pages.collect(),
        });
        self
    }

    pub(crate) fn exercise(mut self, slug: &str, page: &str, hints: &[(u32, &str)]) -> Self {
        self.0.exercises.push(SiteExercise {
            slug: ExerciseSlug::new(slug).expect("a slug"),
            title: format!("Exercise {slug}"),
            page: page.to_owned(),
            files: vec![format!("server/src/lab/{slug}.lab.js")],
            hints: hints
                .iter()
                .map(|(after, text)| (*after, (*text).to_owned()))
                .collect(),
            has_checks: true,
            missing: Vec::new(),
        });
        self
    }

    /// As [`exercise`](Self::exercise), in an event that has not what it needs.
    pub(crate) fn exercise_without(self, slug: &str, page: &str, missing: &str) -> Self {
        let mut author = self.exercise(slug, page, &[]);
        let last = author.0.exercises.last_mut().expect("just made");
        last.missing.push(missing.to_owned());
        author
    }

    pub(crate) fn build(&self) -> Result<Site, Problems> {
        build(&self.0)
    }

    pub(crate) fn site(&self) -> Site {
        self.build().expect("no two pages of one address")
    }

    /// What Markdown becomes, on a page of its own.
    pub(crate) fn article(markdown: &str) -> String {
        let site = Self::new()
            .file("a.md", &format!("---\ntitle: A\n---\n{markdown}"))
            .site();
        assert_eq!(site.notes.iter().count(), 0);
        article(&site, "/a/")
    }
}

pub(crate) fn html(site: &Site, path: &str) -> String {
    String::from_utf8(site.page(path).expect("a page").body.clone()).expect("UTF-8")
}

/// The author's part of a page.
pub(crate) fn article(site: &Site, path: &str) -> String {
    let html = html(site, path);
    let article = html
        .split("</h1>")
        .nth(1)
        .expect("a title")
        .split("</article>")
        .next()
        .expect("an article");
    article.trim().to_owned()
}
