//! Markdown to HTML: pulldown-cmark's events with our own ideas about headings, code, tables,
//! links, boxes and kramdown's attribute lines. No inline style or script comes from here, so
//! that a strict content security policy can stand.

use std::collections::BTreeMap;
use std::ops::Range;

use arena_workshop::{Problems, Severity};
use pulldown_cmark::{
    Alignment, BlockQuoteKind, CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag,
    TagEnd, html,
};

use crate::links::{Links, Target};
use crate::source::{ATTRIBUTES, PageSource};

/// A page's content, finished.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The HTML.
    pub(crate) html: String,
    /// Headings of the second and third level, for the contents.
    pub(crate) headings: Vec<Heading>,
}

/// A heading that can be linked to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heading {
    /// Its id.
    pub(crate) id: String,
    /// Its text.
    pub(crate) text: String,
    /// Whether it is of the third level.
    pub(crate) is_inner: bool,
}

/// Turns a page into HTML and notes what should be mended.
pub(crate) fn render(page: &PageSource, links: &Links<'_>, notes: &mut Problems) -> Content {
    let mut writer = Writer::new(page, Some(links));
    for (event, range) in Parser::new_ext(&page.text, options()).into_offset_iter() {
        writer.event(event, range);
    }
    writer.fragments();
    for found in std::mem::take(&mut writer.problems) {
        let problem = page.problem(Severity::Warning, found.line, &found.part, found.message);
        notes.push(problem.hint(found.hint));
    }
    writer.finish()
}

/// Turns a short text, such as a hint, into HTML.
pub(crate) fn snippet(page: &PageSource, text: &str) -> String {
    let mut writer = Writer::new(page, None);
    for (event, range) in Parser::new_ext(text, options()).into_offset_iter() {
        writer.event(event, range);
    }
    writer.finish().html
}

fn options() -> Options {
    Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_GFM
}

/// Escapes text for HTML, attributes too.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A fault, with the part of its line to underline.
struct Found {
    line: usize,
    part: String,
    message: String,
    hint: String,
}

struct Writer<'a> {
    page: &'a PageSource,
    links: Option<&'a Links<'a>>,
    out: Vec<Event<'a>>,
    /// Where each open block begins in `out`.
    blocks: Vec<usize>,
    /// Depth and beginning of the block that was closed last.
    last_block: Option<(usize, usize)>,
    /// What to close after the next block of a depth.
    pending: Option<(usize, String)>,
    ids: BTreeMap<String, usize>,
    anchors: Vec<(String, usize)>,
    headings: Vec<Heading>,
    /// Where the open heading begins in `out`, and its text so far.
    heading: Option<(usize, String)>,
    code: Option<(String, String)>,
    alignments: Vec<Alignment>,
    column: usize,
    is_head: bool,
    open_links: Vec<&'static str>,
    problems: Vec<Found>,
}

impl<'a> Writer<'a> {
    fn new(page: &'a PageSource, links: Option<&'a Links<'a>>) -> Self {
        Self {
            page,
            links,
            out: Vec::new(),
            blocks: Vec::new(),
            last_block: None,
            pending: None,
            ids: BTreeMap::new(),
            anchors: Vec::new(),
            headings: Vec::new(),
            heading: None,
            code: None,
            alignments: Vec::new(),
            column: 0,
            is_head: false,
            open_links: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn finish(self) -> Content {
        let mut text = String::new();
        html::push_html(&mut text, self.out.into_iter());
        Content {
            html: text,
            headings: self.headings,
        }
    }

    fn raw(&mut self, text: impl Into<String>) {
        self.out.push(Event::Html(CowStr::from(text.into())));
    }

    fn line(&self, range: &Range<usize>) -> usize {
        let before = self.page.text.get(..range.start).unwrap_or_default();
        self.page.lines_before + before.matches('\n').count() + 1
    }

    fn event(&mut self, event: Event<'a>, range: Range<usize>) {
        match event {
            Event::Start(tag) => {
                if is_block(&tag.to_end()) {
                    self.blocks.push(self.out.len());
                }
                self.start(tag, &range);
            }
            Event::End(tag) => {
                self.end(tag);
                if is_block(&tag) {
                    self.close_block();
                }
            }
            Event::Text(text) if self.code.is_some() => {
                if let Some((_, code)) = &mut self.code {
                    code.push_str(&text);
                }
            }
            Event::Text(text) => {
                if let Some((_, heading)) = &mut self.heading {
                    heading.push_str(&text);
                }
                self.out.push(Event::Text(text));
            }
            Event::Code(text) => {
                if let Some((_, heading)) = &mut self.heading {
                    heading.push_str(&text);
                }
                self.out.push(Event::Code(text));
            }
            Event::Html(text) if text.starts_with(ATTRIBUTES) => self.attributes(&text),
            Event::Html(text) => {
                let text = self.raw_html(&text, &range);
                self.raw(text);
            }
            Event::InlineHtml(text) => {
                let text = self.raw_html(&text, &range);
                self.out.push(Event::InlineHtml(text.into()));
            }
            other => self.out.push(other),
        }
    }

    fn start(&mut self, tag: Tag<'a>, range: &Range<usize>) {
        match tag {
            Tag::Heading { level, id, .. } => {
                let id = id.map(|id| id.to_string()).unwrap_or_default();
                self.heading = Some((self.out.len(), String::new()));
                self.raw(format!("<{level} id=\"{}\">", escape(&id)));
                if !id.is_empty() {
                    self.ids.insert(id, 1);
                }
            }
            Tag::CodeBlock(kind) => {
                let language = match kind {
                    CodeBlockKind::Fenced(info) => info
                        .split([' ', ',', '{'])
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some((language, String::new()));
            }
            Tag::Link {
                dest_url, title, ..
            } => self.link(&dest_url, &title, range),
            Tag::Image {
                link_type,
                dest_url,
                title,
                id,
            } => {
                let dest_url = self.address(&dest_url, range, "image").0.into();
                self.out.push(Event::Start(Tag::Image {
                    link_type,
                    dest_url,
                    title,
                    id,
                }));
            }
            Tag::BlockQuote(Some(kind)) => {
                let (class, title) = match kind {
                    BlockQuoteKind::Note => ("note", "Note"),
                    BlockQuoteKind::Tip => ("tip", "Tip"),
                    BlockQuoteKind::Important => ("important", "Important"),
                    BlockQuoteKind::Warning => ("warning", "Warning"),
                    BlockQuoteKind::Caution => ("caution", "Caution"),
                };
                self.raw(callout(class, title));
            }
            Tag::Table(alignments) => {
                self.alignments = alignments;
                self.raw("<div class=\"scroll\"><table>\n");
            }
            Tag::TableHead => {
                self.is_head = true;
                self.column = 0;
                self.raw("<thead><tr>");
            }
            Tag::TableRow => {
                self.column = 0;
                self.raw("<tr>");
            }
            Tag::TableCell => self.start_cell(),
            Tag::HtmlBlock => {}
            other => self.out.push(Event::Start(other)),
        }
    }

    fn start_cell(&mut self) {
        let class = match self.alignments.get(self.column) {
            Some(Alignment::Right) => " class=\"right\"",
            Some(Alignment::Center) => " class=\"center\"",
            _ => "",
        };
        let cell = if self.is_head {
            format!("<th scope=\"col\"{class}>")
        } else {
            format!("<td{class}>")
        };
        self.raw(cell);
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.end_heading(level),
            TagEnd::CodeBlock => {
                let (language, code) = self.code.take().unwrap_or_default();
                self.raw(code_block(&language, &code));
            }
            TagEnd::Link => {
                let close = self.open_links.pop().unwrap_or("</a>");
                self.out.push(Event::InlineHtml(close.into()));
            }
            TagEnd::BlockQuote(Some(_)) => self.raw("</aside>\n"),
            TagEnd::Table => self.raw("</tbody></table></div>\n"),
            TagEnd::TableHead => {
                self.is_head = false;
                self.raw("</tr></thead><tbody>\n");
            }
            TagEnd::TableRow => self.raw("</tr>\n"),
            TagEnd::TableCell => {
                let close = if self.is_head { "</th>" } else { "</td>" };
                self.raw(close);
                self.column += 1;
            }
            TagEnd::HtmlBlock => {}
            other => self.out.push(Event::End(other)),
        }
    }

    fn end_heading(&mut self, level: HeadingLevel) {
        let (start, text) = self.heading.take().unwrap_or_default();
        let mut id = match self.out.get(start) {
            Some(Event::Html(open)) => open.split('"').nth(1).unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        if id.is_empty() {
            id = self.unique(slug(&text));
            if let Some(open) = self.out.get_mut(start) {
                *open = Event::Html(format!("<{level} id=\"{}\">", escape(&id)).into());
            }
        }
        self.raw(format!(
            "<a class=\"anchor\" href=\"#{0}\" aria-label=\"Link to “{1}”\">#</a></{level}>\n",
            escape(&id),
            escape(&text)
        ));
        if matches!(level, HeadingLevel::H2 | HeadingLevel::H3) {
            self.headings.push(Heading {
                id,
                text,
                is_inner: level == HeadingLevel::H3,
            });
        }
    }

    fn unique(&mut self, id: String) -> String {
        let id = if id.is_empty() {
            "section".to_owned()
        } else {
            id
        };
        let seen = self.ids.entry(id.clone()).or_insert(0);
        *seen += 1;
        let number = *seen - 1;
        if number == 0 {
            id
        } else {
            self.unique(format!("{id}-{number}"))
        }
    }

    fn link(&mut self, destination: &str, title: &str, range: &Range<usize>) {
        let (address, is_outside) = self.address(destination, range, "link");
        let title = if title.is_empty() {
            String::new()
        } else {
            format!(" title=\"{}\"", escape(title))
        };
        let outside = if is_outside {
            " target=\"_blank\" rel=\"noopener\""
        } else {
            ""
        };
        self.out.push(Event::InlineHtml(
            format!("<a href=\"{}\"{title}{outside}>", escape(&address)).into(),
        ));
        self.open_links.push(if is_outside {
            "<span class=\"hidden\"> (opens a new tab)</span></a>"
        } else {
            "</a>"
        });
    }

    /// Where a link or image leads, and whether to another site.
    fn address(&mut self, destination: &str, range: &Range<usize>, what: &str) -> (String, bool) {
        let Some(links) = self.links else {
            return (destination.to_owned(), true);
        };
        match links.resolve(self.page, destination) {
            Target::Inside(address) => {
                if let Some(fragment) = address
                    .strip_prefix('#')
                    .filter(|fragment| !fragment.is_empty())
                {
                    self.anchors.push((fragment.to_owned(), self.line(range)));
                }
                (address, false)
            }
            Target::Outside => (destination.to_owned(), true),
            // A page of instructions has no use for links that run something.
            Target::Other if destination.to_ascii_lowercase().starts_with("javascript:") => {
                ("#".to_owned(), false)
            }
            Target::Other => (destination.to_owned(), false),
            Target::Nowhere => {
                let message = format!("the {what} `{destination}` leads nowhere");
                self.problems.push(Found {
                    line: self.line(range),
                    part: destination.to_owned(),
                    message,
                    hint: "there is no page or file at that address below docs/".to_owned(),
                });
                (destination.to_owned(), false)
            }
        }
    }

    /// Reports links to places on this page that are not there.
    fn fragments(&mut self) {
        for (fragment, line) in std::mem::take(&mut self.anchors) {
            let is_raw = self.page.text.contains(&format!("id=\"{fragment}\""))
                || self.page.text.contains(&format!("name=\"{fragment}\""));
            if !self.ids.contains_key(&fragment) && !is_raw {
                let near = self
                    .ids
                    .keys()
                    .find(|id| id.contains(&fragment) || fragment.contains(id.as_str()));
                let hint = near.map_or("headings make anchors of their words".to_owned(), |id| {
                    format!("did you mean `#{id}`?")
                });
                self.problems.push(Found {
                    line,
                    part: format!("#{fragment}"),
                    message: format!("no heading of this page has the anchor `#{fragment}`"),
                    hint,
                });
            }
        }
    }

    /// Resolves `href` and `src` in raw HTML.
    fn raw_html(&mut self, text: &str, range: &Range<usize>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, name)) = [" src=\"", " href=\""]
            .iter()
            .filter_map(|name| Some((rest.find(name)?, *name)))
            .min()
        {
            let value_at = at + name.len();
            let Some(length) = rest[value_at..].find('"') else {
                break;
            };
            let value = &rest[value_at..value_at + length];
            let what = if name.contains("src") {
                "image"
            } else {
                "link"
            };
            out.push_str(&rest[..value_at]);
            out.push_str(&self.address(value, range, what).0);
            rest = &rest[value_at + length..];
        }
        out.push_str(rest);
        out
    }

    /// Applies `{: .note #id }` to the block before it, or keeps it for the one after.
    fn attributes(&mut self, mark: &str) {
        let inner = mark
            .trim_start_matches(ATTRIBUTES)
            .trim_end()
            .trim_end_matches("-->")
            .replace('\u{2010}', "-");
        let Some((side, attributes)) = inner.split_once(' ') else {
            return;
        };
        let open = wrapper(attributes);
        let depth = self.blocks.len() - 1;
        match self.last_block {
            Some((at, start)) if side == "before" && at == depth => {
                self.out.insert(start, Event::Html(open.0.into()));
                self.raw(open.1);
            }
            _ => {
                self.raw(open.0);
                self.pending = Some((depth, open.1.to_owned()));
            }
        }
    }

    fn close_block(&mut self) {
        let start = self.blocks.pop().unwrap_or_default();
        let depth = self.blocks.len();
        // The mark itself is a block of raw HTML: it is not what a mark is about.
        if self.out.len() == start {
            return;
        }
        let is_mark = self
            .pending
            .as_ref()
            .is_some_and(|(at, _)| *at == depth && self.out.len() == start + 1);
        if !is_mark {
            self.last_block = Some((depth, start));
            if let Some((_, close)) = self.pending.take_if(|(at, _)| *at == depth) {
                self.raw(close);
            }
        }
    }
}

fn is_block(tag: &TagEnd) -> bool {
    matches!(
        tag,
        TagEnd::Paragraph
            | TagEnd::Heading(_)
            | TagEnd::BlockQuote(_)
            | TagEnd::CodeBlock
            | TagEnd::List(_)
            | TagEnd::Item
            | TagEnd::Table
            | TagEnd::HtmlBlock
    )
}

fn callout(class: &str, title: &str) -> String {
    format!("<aside class=\"callout {class}\"><p class=\"callout-title\">{title}</p>\n")
}

/// What goes around a block with those attributes: a box for the known kinds, else a division.
fn wrapper(attributes: &str) -> (String, &'static str) {
    let classes: Vec<&str> = attributes
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('.'))
        .collect();
    let id = attributes
        .split_whitespace()
        .find_map(|word| word.strip_prefix('#'));
    let box_of = |class: &&str| match class.trim_start_matches("notice--") {
        "note" | "info" | "notice" | "primary" => Some(("note", "Note")),
        "tip" | "success" => Some(("tip", "Tip")),
        "important" => Some(("important", "Important")),
        "warning" => Some(("warning", "Warning")),
        "caution" | "danger" => Some(("caution", "Caution")),
        _ => None,
    };
    if let Some((class, title)) = classes.iter().find_map(box_of) {
        return (callout(class, title), "</aside>\n");
    }
    let id = id
        .map(|id| format!(" id=\"{}\"", escape(id)))
        .unwrap_or_default();
    (
        format!("<div{id} class=\"{}\">\n", escape(&classes.join(" "))),
        "</div>\n",
    )
}

fn code_block(language: &str, code: &str) -> String {
    let class = if language.is_empty() {
        String::new()
    } else {
        format!(" class=\"language-{}\"", escape(language))
    };
    let label = escape(if language.is_empty() {
        "text"
    } else {
        language
    });
    format!(
        "<div class=\"code\"><div class=\"code-bar\"><span>{label}</span><button type=\"button\" class=\"copy\" hidden>Copy</button></div>\
         <pre tabindex=\"0\"><code{class}>{}</code></pre></div>\n",
        escape(code)
    )
}

/// kramdown's rule: lower case; words, hyphens and blanks stay; blanks become hyphens.
fn slug(text: &str) -> String {
    let kept = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '))
        .collect::<String>();
    kept.replace(' ', "-")
}
