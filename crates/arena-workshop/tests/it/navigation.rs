//! Which pages and exercises a scenario lists.

use arena_workshop::config::Section;
use arena_workshop::navigation::{self, Navigation};
use arena_workshop::{Problems, SourceFile};

use crate::REFERENCE_NAVIGATION;

fn parse(text: &str) -> (Option<Navigation>, String) {
    let mut problems = Problems::default();
    let navigation = navigation::parse(
        &SourceFile::new("docs/_data/navigation.yml", text),
        &mut problems,
    );
    (navigation, problems.to_string())
}

fn shown(wanted: &[(&str, &[&str])]) -> String {
    let wanted: Vec<Section> = wanted
        .iter()
        .map(|(title, content)| Section {
            title: (*title).to_owned(),
            content: content.iter().map(|url| (*url).to_owned()).collect(),
        })
        .collect();
    let navigation = parse(REFERENCE_NAVIGATION).0.unwrap().filter(&wanted);
    let mut text = String::new();
    for section in &navigation.sections {
        text += &format!("{}\n", section.title);
        for page in &section.pages {
            text += &format!("  {}\n", page.url);
        }
    }
    let exercises: Vec<String> = navigation
        .exercises()
        .iter()
        .map(|(slug, _)| slug.to_string())
        .collect();
    text + &format!("exercises: {}\n", exercises.join(" "))
}

#[test]
fn no_sections_show_everything() {
    insta::assert_snapshot!(shown(&[]));
}

#[test]
fn a_section_without_pages_is_shown_whole() {
    insta::assert_snapshot!(shown(&[("Vector Search", &[]), ("Welcome", &[])]));
}

#[test]
fn listed_pages_bring_their_hints_and_the_first_page() {
    insta::assert_snapshot!(shown(&[
        ("CRUD Operations", &["/crud/2/", "/crud/index/"]),
        ("Unknown", &[])
    ]));
}

#[test]
fn mistakes_of_a_navigation_have_a_place() {
    let mut all = String::new();
    for text in [
        "dcos: []\n",
        "docs: soup\n",
        "docs:\n- children: []\n- title: A\n  childen: []\n- title: B\n  children:\n  - title: x\n  - url: /x/\n  - {title: y, url: crud/1}\n  - {title: z, url: /a/}\n  - {title: z, url: /a/}\n",
    ] {
        all += &parse(text).1;
    }
    insta::assert_snapshot!(all);
}

#[test]
fn only_plain_addresses_are_exercises() {
    let (navigation, _) = parse(
        "docs:\n- title: A\n  children:\n  - {title: a, url: /a/b/1/}\n  - {title: b, url: /A/1/}\n  - {title: c, url: https://x.org/crud/1/}\n  - {title: d, url: /crud/1}\n  - {title: e, url: /crud/07/}\n  - {title: f, url: /crud/index/}\n",
    );
    let exercises: Vec<String> = navigation
        .unwrap()
        .exercises()
        .iter()
        .map(|(slug, _)| slug.to_string())
        .collect();
    assert_eq!(exercises, ["crud-07", "crud-index"]);
}
