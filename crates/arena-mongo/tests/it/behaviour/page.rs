//! `docs/database/differences.md`, made from the cases that say how the built-in
//! database differs. `ARENA_WRITE_DOCS=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use super::cases::{Expected, Step};
use super::{Topic, expectation};

const HEAD: &str = include_str!("page.md");

/// Fails when the page is not what the cases say.
pub(super) fn check(topics: &[Topic]) {
    let page = page(topics);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/database/differences.md");
    if env::var_os("ARENA_WRITE_DOCS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "docs/database/differences.md is stale; write it anew with: ARENA_WRITE_DOCS=1 cargo test -p arena-mongo --test it differences"
    );
}

fn page(topics: &[Topic]) -> String {
    let steps = || {
        topics
            .iter()
            .flat_map(|topic| &topic.cases)
            .flat_map(|case| &case.steps)
    };
    let all = steps().count();
    let different: Vec<&Step> = steps().filter(|step| !step.here.is_empty()).collect();
    let refused = different.iter().filter(|step| is_refused(step)).count();
    let mut page = HEAD.to_owned();
    writeln!(
        page,
        "Of {all} questions of the behaviour suite the built-in database answers {} as MongoDB 8 does, \
         refuses {refused} that MongoDB answers or refuses in other words, and answers {} differently.\n",
        all - different.len(),
        different.len() - refused
    )
    .unwrap();
    for topic in topics {
        write_topic(&mut page, topic);
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn is_refused(step: &Step) -> bool {
    let is_error = |expected: &Expected| match expected {
        Expected::Error { .. } => true,
        Expected::Holds(fields) => fields.get_f64("ok").is_ok_and(|ok| ok == 0.0),
        _ => false,
    };
    step.here.iter().any(is_error)
}

fn write_topic(page: &mut String, topic: &Topic) {
    let different = topic.cases.iter().flat_map(|case| {
        let steps = case.steps.iter().filter(|step| !step.here.is_empty());
        steps.map(|step| (case.title.as_str(), step))
    });
    let different: Vec<(&str, &Step)> = different.collect();
    if different.is_empty() {
        return;
    }
    let mut name = topic.name.replace('-', " ");
    name[..1].make_ascii_uppercase();
    writeln!(page, "## {name}\n").unwrap();
    writeln!(
        page,
        "| case | asked | MongoDB | built-in database (DocumentDB) | why |"
    )
    .unwrap();
    writeln!(page, "|---|---|---|---|---|").unwrap();
    for (title, step) in different {
        let because = step.because.as_deref();
        let because = because.unwrap_or_else(|| panic!("'{title}' needs a reason ('because …')"));
        writeln!(
            page,
            "| {} | {} | {} | {} | {} |",
            cell(title),
            code(&step.text),
            answers(&step.expected),
            answers(&step.here),
            cell(because)
        )
        .unwrap();
    }
    writeln!(page).unwrap();
}

fn answers(expected: &[Expected]) -> String {
    let texts: Vec<String> = expected.iter().map(|one| code(&expectation(one))).collect();
    texts.join(" ")
}

fn code(text: &str) -> String {
    let text = cell(text);
    if text.contains('`') {
        format!("`` {text} ``")
    } else {
        format!("`{text}`")
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
