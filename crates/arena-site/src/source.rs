//! A page's source: its front matter cut off, the Liquid and the kramdown that we know turned
//! into something Markdown knows. Every line keeps its number, so that a problem can be shown
//! where the author wrote it.

use arena_workshop::{Problem, Problems, Severity, SourceFile, Span};

use crate::links;

/// A page as its author wrote it.
#[derive(Debug, Clone)]
pub(crate) struct PageSource {
    /// The file, for problems.
    pub(crate) file: SourceFile,
    /// Path below `docs/`.
    pub(crate) path: String,
    /// Such as `/mongodb/1/`.
    pub(crate) url: String,
    /// From the front matter, else the first heading, else the file's name.
    pub(crate) title: String,
    /// Markdown, cleaned.
    pub(crate) text: String,
    /// Lines of the file before the text.
    pub(crate) lines_before: usize,
    /// The line of the front matter that gives the address, else 1.
    pub(crate) permalink_line: usize,
}

/// Keys of the front matter that we use; every other is some theme's and ignored.
#[derive(Debug, Default)]
struct FrontMatter {
    title: Option<String>,
    permalink: Option<(String, usize)>,
    is_unpublished: bool,
    lines: usize,
}

/// What stands for a kramdown attribute line in the text given to Markdown.
pub(crate) const ATTRIBUTES: &str = "<!--arena:attributes ";

impl PageSource {
    /// Returns a problem at `part` of a line of the file (the whole line where it is not there);
    /// lines are counted from 1.
    pub(crate) fn problem(
        &self,
        severity: Severity,
        line: usize,
        part: &str,
        message: impl Into<String>,
    ) -> Problem {
        let text = String::from_utf8_lossy(&self.file.bytes);
        let before: usize = text
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let trimmed = shown.len() - shown.trim_start().len()..shown.trim_end().len();
        let found = shown
            .find(part)
            .filter(|_| !part.is_empty())
            .map(|at| at..at + part.len());
        let place = found.unwrap_or(trimmed);
        let column = 1 + shown
            .get(..place.start)
            .map_or(0, |text| text.chars().count());
        let span = Span {
            start: before + place.start,
            end: before + place.end.max(place.start),
            line,
            column,
        };
        self.file.problem(severity, span, message)
    }
}

/// Returns whether a file below `docs/` becomes a page.
pub(crate) fn is_page(path: &str) -> bool {
    let hidden = path.split('/').any(|part| part.starts_with(['_', '.']));
    !hidden
        && path
            .rsplit_once('.')
            .is_some_and(|(_, extension)| matches!(extension, "md" | "markdown"))
}

/// Reads a page; `None` when its front matter says `published: false`.
pub(crate) fn read(path: &str, file: &SourceFile, notes: &mut Problems) -> Option<PageSource> {
    let text = String::from_utf8_lossy(&file.bytes).replace("\r\n", "\n");
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let front = front_matter(text);
    if front.is_unpublished {
        return None;
    }
    let body: String = text.split_inclusive('\n').skip(front.lines).collect();
    let title = front
        .title
        .or_else(|| first_heading(&body))
        .unwrap_or_else(|| path.trim_end_matches(".md").to_owned());
    let (url, permalink_line) = match front.permalink {
        Some((permalink, line)) => (links::as_folder(&permalink), line),
        None => (default_url(path), 1),
    };
    let mut page = PageSource {
        file: file.clone(),
        path: path.to_owned(),
        url,
        title,
        text: String::new(),
        lines_before: front.lines,
        permalink_line,
    };
    if std::str::from_utf8(&file.bytes).is_err() {
        notes.push(
            page.problem(Severity::Warning, 1, "", "this page is not UTF-8")
                .hint("save it as UTF-8"),
        );
    }
    page.text = attribute_lines(&liquid(&body));
    Some(page)
}

/// Where a page without a permalink goes.
fn default_url(path: &str) -> String {
    let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    match name.to_ascii_lowercase().as_str() {
        "index" | "readme" => links::as_folder(folder),
        _ => links::as_folder(stem),
    }
}

fn first_heading(body: &str) -> Option<String> {
    body.lines()
        .find_map(|line| line.strip_prefix("# "))
        .map(|title| title.trim().to_owned())
}

/// Reads top-level `key: value` lines between two `---`. Lists and mappings are some theme's.
fn front_matter(text: &str) -> FrontMatter {
    let mut front = FrontMatter::default();
    let mut lines = text.lines().enumerate();
    if lines
        .next()
        .is_none_or(|(_, first)| first.trim_end() != "---")
    {
        return front;
    }
    for (index, line) in lines {
        if matches!(line.trim_end(), "---" | "...") {
            front.lines = index + 1;
            return front;
        }
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = scalar(value);
        match key {
            "title" if !value.is_empty() => front.title = Some(value),
            "permalink" if !value.is_empty() => front.permalink = Some((value, index + 1)),
            "published" => front.is_unpublished = matches!(value.as_str(), "false" | "no" | "off"),
            _ => {}
        }
    }
    // Never closed: it was a rule across the page, not a front matter.
    FrontMatter::default()
}

/// A YAML scalar on one line: quotes taken off, a comment cut.
fn scalar(value: &str) -> String {
    let value = value.trim();
    if let Some(inner) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        return inner.replace("\\\"", "\"");
    }
    if let Some(inner) = value
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
    {
        return inner.replace("''", "'");
    }
    value
        .split(" #")
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// Resolves the Liquid that pages of plain workshops use; everything else stays as text.
fn liquid(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find(['{']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (taken, replacement) = liquid_at(from);
        match replacement {
            Some(text) => {
                out.push_str(&text);
                let newlines = from[..taken]
                    .matches('\n')
                    .count()
                    .saturating_sub(text.matches('\n').count());
                out.extend(std::iter::repeat_n('\n', newlines));
                rest = &from[taken..];
            }
            None => {
                out.push('{');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// What stands at a `{`: how many bytes it takes, and what replaces them.
fn liquid_at(from: &str) -> (usize, Option<String>) {
    let closed = |open: &str, close: &str| {
        from.strip_prefix(open).and_then(|inner| {
            inner
                .find(close)
                .map(|end| (inner[..end].trim(), open.len() + end + close.len()))
        })
    };
    if let Some((inner, taken)) = closed("{%", "%}") {
        let inner = inner.trim_matches('-').trim();
        let (tag, argument) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
        let until = |end: &str| from.find(end).map(|at| (at, at + end.len()));
        return match tag {
            "comment" => match until("{% endcomment %}") {
                Some((_, end)) => (end, Some(String::new())),
                None => (taken, None),
            },
            "raw" => match until("{% endraw %}") {
                Some((start, end)) => (end, Some(from[taken..start].to_owned())),
                None => (taken, None),
            },
            // Our theme has its own way to the next page; other includes are some theme's.
            "include" | "include_cached" => (taken, Some(String::new())),
            "link" => (
                taken,
                Some(format!("/{}", argument.trim().trim_start_matches("docs/"))),
            ),
            _ => (taken, None),
        };
    }
    if let Some((inner, taken)) = closed("{{", "}}") {
        if matches!(inner, "site.baseurl" | "site.url" | "site.github.url") {
            return (taken, Some(String::new()));
        }
        if let Some((value, filter)) = inner.split_once('|') {
            let value = value.trim();
            let quoted = value.len() > 1 && value.starts_with(['"', '\'']);
            if quoted && matches!(filter.trim(), "relative_url" | "absolute_url") {
                return (taken, Some(value[1..value.len() - 1].to_owned()));
            }
        }
    }
    (0, None)
}

/// Turns kramdown's `{: .note }` lines into comments that `markdown` applies to their block,
/// and drops the ones behind links, outside code.
fn attribute_lines(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut fence: Option<(char, usize)> = None;
    let mut is_after_text = false;
    for line in body.split_inclusive('\n') {
        let bare = line.trim_start_matches([' ', '\t', '>']).trim_end();
        if let Some(open) = fence {
            fence = if closes(bare, open) { None } else { Some(open) };
            out.push_str(line);
        } else if let Some(open) = opens(bare) {
            fence = Some(open);
            out.push_str(line);
        } else if let Some(attributes) = bare
            .strip_prefix("{:")
            .and_then(|rest| rest.strip_suffix('}'))
        {
            let prefix = &line[..line.len() - line.trim_start_matches([' ', '\t', '>']).len()];
            let side = if is_after_text { "before" } else { "after" };
            let safe = attributes.replace("--", "\u{2010}\u{2010}");
            out.push_str(&format!("{prefix}{ATTRIBUTES}{side} {}-->\n", safe.trim()));
        } else {
            out.push_str(&without_span_attributes(line));
        }
        is_after_text = !bare.is_empty();
    }
    out
}

fn opens(bare: &str) -> Option<(char, usize)> {
    let mark = bare.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = bare.chars().take_while(|c| *c == mark).count();
    let info = &bare[length..];
    (length >= 3 && !(mark == '`' && info.contains('`'))).then_some((mark, length))
}

fn closes(bare: &str, (mark, length): (char, usize)) -> bool {
    bare.chars().all(|c| c == mark) && bare.chars().count() >= length
}

/// Drops `{:target="_blank"}` behind a link or an image.
fn without_span_attributes(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("){:") {
        let Some(end) = rest[at..].find('}') else {
            break;
        };
        out.push_str(&rest[..=at]);
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> PageSource {
        read(
            "a/b.md",
            &SourceFile::new("docs/a/b.md", text),
            &mut Problems::default(),
        )
        .unwrap()
    }

    #[test]
    fn front_matter_gives_title_and_address() {
        let page = page("---\ntitle: \"A: b\"\npermalink: /x/1\nlayout: single\n---\nText\n");
        assert_eq!(
            (
                page.title.as_str(),
                page.url.as_str(),
                page.text.as_str(),
                page.lines_before
            ),
            ("A: b", "/x/1/", "Text\n", 5)
        );
    }

    #[test]
    fn a_page_without_front_matter_is_named_by_its_heading_and_its_path() {
        let page = page("# Hello\n\nText\n");
        assert_eq!((page.title.as_str(), page.url.as_str()), ("Hello", "/a/b/"));
        assert_eq!(default_url("README.md"), "/");
        assert_eq!(default_url("a/index.md"), "/a/");
    }

    #[test]
    fn an_unclosed_front_matter_is_text() {
        assert_eq!(page("---\ntitle: x\n").text, "---\ntitle: x\n");
    }

    #[test]
    fn known_liquid_is_resolved_and_the_rest_is_left() {
        assert_eq!(
            liquid("a {{ site.baseurl }}/x {{ '/y' | relative_url }} {{ page.title }}"),
            "a /x /y {{ page.title }}"
        );
        assert_eq!(
            liquid("{% comment %}a\n{% include b %}\n{% endcomment %}c"),
            "\n\nc"
        );
        assert_eq!(
            liquid("{% raw %}{{ x }}{% endraw %} {% if y %}"),
            "{{ x }} {% if y %}"
        );
        assert_eq!(
            liquid("{% link docs/a.md %}{% include next.html %}"),
            "/a.md"
        );
        assert_eq!(liquid("{ { {% {{"), "{ { {% {{");
    }

    #[test]
    fn attribute_lines_become_marks_but_not_in_code() {
        assert_eq!(
            attribute_lines("Text\n{: .note }\n"),
            "Text\n<!--arena:attributes before .note-->\n"
        );
        assert_eq!(
            attribute_lines("\n{: .note }\nText\n"),
            "\n<!--arena:attributes after .note-->\nText\n"
        );
        assert_eq!(
            attribute_lines("```\n{: .note }\n```\n"),
            "```\n{: .note }\n```\n"
        );
        assert_eq!(
            attribute_lines("[a](b){:target=\"_blank\"} c\n"),
            "[a](b) c\n"
        );
    }
}
