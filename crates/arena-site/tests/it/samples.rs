//! The workshops in `examples/` are what authors copy: their instructions have no fault.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use arena_site::{SiteSources, build};
use arena_workshop::SourceFile;

fn files(root: &Path, folder: &Path, into: &mut BTreeMap<String, SourceFile>) {
    for entry in fs::read_dir(folder).expect("the samples are readable") {
        let path = entry.expect("the samples are readable").path();
        if path.is_dir() {
            files(root, &path, into);
        } else {
            let name = path
                .strip_prefix(root)
                .expect("the samples are readable")
                .to_str()
                .expect("the samples are readable")
                .to_owned();
            into.insert(
                name.clone(),
                SourceFile::new(
                    format!("docs/{name}"),
                    fs::read(&path).expect("the samples are readable"),
                ),
            );
        }
    }
}

#[test]
fn the_samples_have_no_dead_link() {
    for (sample, pages) in [("hello", 1), ("harbour", 10)] {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples")
            .join(sample)
            .join("docs");
        let mut sources = SiteSources {
            title: sample.to_owned(),
            ..SiteSources::default()
        };
        files(&root, &root, &mut sources.files);
        let site = build(&sources).unwrap();
        let problems: String = site.notes.iter().map(ToString::to_string).collect();
        assert_eq!(problems, "");
        let built = site.paths().filter(|path| path.ends_with('/')).count();
        assert_eq!(built, if sample == "hello" { pages + 1 } else { pages });
    }
}
