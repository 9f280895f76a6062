//! Where a link or an image leads. Relative ones are tried from the page's address, as Jekyll
//! does, then from the file's place, as code hosts do; what leads nowhere stays as written.

use std::collections::{BTreeMap, BTreeSet};

use crate::SiteSources;
use crate::source::PageSource;

/// Every address of the site.
pub(crate) struct Links<'a> {
    /// Address by path of the source, such as `mongodb/1.md` → `/mongodb/1/`.
    pages: BTreeMap<&'a str, String>,
    addresses: BTreeSet<String>,
    files: BTreeSet<&'a str>,
    /// Titles by address.
    titles: BTreeMap<String, String>,
}

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A page or file of the site, or a place on this page; the address to write.
    Inside(String),
    /// Another site.
    Outside,
    /// Something else, such as `mailto:`.
    Other,
    /// Nothing is there.
    Nowhere,
}

impl<'a> Links<'a> {
    /// Collects the addresses.
    pub(crate) fn new(sources: &'a SiteSources, pages: &[PageSource]) -> Self {
        let address = |path: &str| {
            pages
                .iter()
                .find(|page| page.path == path)
                .map(|page| page.url.clone())
        };
        Self {
            pages: sources
                .files
                .keys()
                .filter_map(|path| Some((path.as_str(), address(path)?)))
                .collect(),
            addresses: pages
                .iter()
                .map(|page| page.url.clone())
                .chain(["/".to_owned()])
                .collect(),
            files: sources
                .files
                .keys()
                .map(String::as_str)
                .filter(|path| !crate::source::is_page(path))
                .collect(),
            titles: pages
                .iter()
                .map(|page| (page.url.clone(), page.title.clone()))
                .collect(),
        }
    }

    /// Returns whether a page has that address.
    pub(crate) fn is_page(&self, url: &str) -> bool {
        self.titles.contains_key(url)
    }

    /// Returns whether the navigation may show that address: a page, the front page, another site.
    pub(crate) fn is_listed(&self, url: &str) -> bool {
        url == "/" || self.is_page(url) || is_outside(url)
    }

    /// Returns where `destination`, written on `page`, leads.
    pub(crate) fn resolve(&self, page: &PageSource, destination: &str) -> Target {
        let lower = destination.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") || lower.starts_with("//")
        {
            return Target::Outside;
        }
        if has_scheme(destination) {
            return Target::Other;
        }
        let (path, behind) = match destination.find(['#', '?']) {
            Some(at) => destination.split_at(at),
            None => (destination, ""),
        };
        if path.is_empty() {
            return Target::Inside(destination.to_owned());
        }
        let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let bases = if path.starts_with('/') {
            vec!["".to_owned()]
        } else {
            vec![page.url.clone(), format!("/{folder}/")]
        };
        let found = bases.iter().find_map(|base| self.at(&join(base, path)?));
        found.map_or(Target::Nowhere, |address| {
            Target::Inside(format!("{}{behind}", encode(&address)))
        })
    }

    /// The address of what is at a path from the root, if something is.
    fn at(&self, path: &str) -> Option<String> {
        let path = decode(path);
        let bare = path.trim_start_matches('/');
        if self.files.contains(bare) && !bare.starts_with('_') {
            return Some(format!("/{bare}"));
        }
        if let Some(address) = self.pages.get(bare) {
            return Some(address.clone());
        }
        let folder = as_folder(&path);
        self.addresses.contains(&folder).then_some(folder)
    }
}

/// Returns an address with one slash at each end: `/a/b/`. `index.html` and `.html` are cut.
pub(crate) fn as_folder(path: &str) -> String {
    let path = path.trim().trim_matches('/');
    let path = path.strip_suffix("index.html").unwrap_or(path);
    let path = path.strip_suffix(".html").unwrap_or(path).trim_matches('/');
    if path.is_empty() {
        "/".to_owned()
    } else {
        format!("/{path}/")
    }
}

/// Returns whether an address is of another site.
pub(crate) fn is_outside(address: &str) -> bool {
    let lower = address.to_ascii_lowercase();
    ["http://", "https://", "//"]
        .iter()
        .any(|start| lower.starts_with(start))
}

fn has_scheme(destination: &str) -> bool {
    let scheme = destination.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// Joins and removes `.` and `..`; `None` when it leads out of the site.
fn join(base: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    Some(format!("/{}{end}", parts.join("/")))
}

/// Resolves `%20` and the like; what is not UTF-8 afterwards stays as it was.
fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let hex = (byte == b'%')
            .then(|| path.get(path.len() - rest.len()..path.len() - rest.len() + 2))
            .flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest.nth(1);
            }
            None => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| path.to_owned())
}

/// The opposite of [`decode`], for what browsers would misread.
fn encode(path: &str) -> String {
    path.replace('%', "%25")
        .replace(' ', "%20")
        .replace('?', "%3F")
        .replace('#', "%23")
        .replace('"', "%22")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        for path in ["/a/b/", "a/b", "/a/b.html", "/a/b/index.html", "//a/b//"] {
            assert_eq!(as_folder(path), "/a/b/");
        }
        assert_eq!(as_folder(""), "/");
        assert_eq!(as_folder("index.html"), "/");
    }

    #[test]
    fn joining_never_leaves_the_site() {
        assert_eq!(join("/a/b/", "../c.png").as_deref(), Some("/a/c.png"));
        assert_eq!(join("/a/", "../../c"), None);
        assert_eq!(join("/a/", "./").as_deref(), Some("/a/"));
    }

    #[test]
    fn percent_signs_are_resolved_where_they_mean_something() {
        assert_eq!(decode("/a%20b%"), "/a b%");
        assert_eq!(decode("/%zz%e9"), "/%zz%e9");
    }
}
