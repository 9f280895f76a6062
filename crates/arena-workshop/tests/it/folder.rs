//! Workshops to parse: the repository's samples, and one written down here.

use std::collections::BTreeMap;
use std::path::Path;

use arena_workshop::{SourceFile, Sources};

use crate::{REFERENCE_CONFIG, REFERENCE_NAVIGATION};

/// Reads `examples/{name}` as the command line does.
pub(crate) fn example(name: &str) -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name);
    let mut texts = BTreeMap::new();
    let mut sources = Sources::default();
    list(&root, "", &mut |path| {
        let is_text = path.ends_with(".yaml") || path.ends_with(".yml") || path.ends_with(".csv");
        if is_text && !path.starts_with("arena/data") {
            texts.insert(
                path.to_owned(),
                SourceFile::new(
                    format!("{name}/{path}"),
                    std::fs::read(root.join(path)).unwrap(),
                ),
            );
        }
        sources.files.insert(path.to_owned());
    });
    place(texts, &mut sources);
    sources
}

/// A workshop of the reference, without a folder of Arena's own.
pub(crate) fn reference() -> Sources {
    let mut sources = Sources::default();
    let texts = [
        ("config.yaml", REFERENCE_CONFIG),
        (
            "user_list.csv",
            "name,surname,email\nAda,Lovelace,ada@example.com\nGrace,Hopper,grace.hopper@example.com\n",
        ),
        ("docs/_data/navigation-guided.yml", REFERENCE_NAVIGATION),
    ];
    place(
        texts
            .into_iter()
            .map(|(path, text)| (path.to_owned(), SourceFile::new(path, text)))
            .collect(),
        &mut sources,
    );
    let files = [
        "app/package.json",
        "server/package.json",
        "server/package-lock.json",
        "server/src/lab/crud-1.lab.js",
        "server/src/lab/crud-2.lab.js",
        "utils/answers/crud-1.lab.js",
        "utils/answers/crud-2.lab.js",
        "utils/answers/vector-search-1.lab.js",
        "docs/_data/navigation-guided.yml",
    ];
    sources.files.extend(files.map(str::to_owned));
    sources
}

fn place(texts: BTreeMap<String, SourceFile>, sources: &mut Sources) {
    for (path, file) in texts {
        match path.as_str() {
            "config.yaml" => sources.config = Some(file),
            "user_list.csv" => sources.participants = Some(file),
            "arena/workshop.yaml" => sources.workshop = Some(file),
            _ if path.starts_with("docs/_data/") => drop(sources.navigations.insert(path, file)),
            _ if path.starts_with("arena/exercises/") => drop(sources.exercises.insert(path, file)),
            _ => {}
        }
    }
}

fn list(root: &Path, inside: &str, take: &mut dyn FnMut(&str)) {
    for entry in std::fs::read_dir(root.join(inside)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if inside.is_empty() {
            name.clone()
        } else {
            format!("{inside}/{name}")
        };
        if !entry.file_type().unwrap().is_dir() {
            take(&path);
        } else if !["node_modules", "out", "dist"].contains(&name.as_str()) {
            list(root, &path, take);
        }
    }
}
