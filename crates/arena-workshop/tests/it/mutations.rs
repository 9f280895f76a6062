//! Bad input by operator, over every key of the samples and of the reference: either an error with
//! place and hint, or accepted for a reason that is listed here. Never a panic.

use std::collections::BTreeMap;

use arena_workshop::{ExerciseSlug, Problems, Severity, SourceFile, Sources, Workshop};
use proptest::prelude::*;

use crate::folder::{example, reference};

/// A line of a YAML file that has a key, and where its block ends.
struct Key {
    line: usize,
    end: usize,
    path: String,
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// Returns every key of a file in block style.
fn keys(text: &str) -> Vec<Key> {
    let lines: Vec<&str> = text.lines().collect();
    let mut parents: Vec<(usize, String)> = Vec::new();
    let mut keys = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let content = line.trim_start_matches([' ', '-']);
        let Some((key, _)) = content.split_once(':') else {
            continue;
        };
        if content.starts_with('#') || key.contains(['"', ' ', '/']) {
            continue;
        }
        parents.retain(|(depth, _)| *depth < indent(line));
        parents.push((indent(line), key.to_owned()));
        let below = lines[number + 1..]
            .iter()
            .take_while(|other| !other.trim().is_empty() && indent(other) > indent(line));
        let path: Vec<&str> = parents.iter().map(|(_, key)| key.as_str()).collect();
        keys.push(Key {
            line: number,
            end: number + 1 + below.count(),
            path: path.join("."),
        });
    }
    keys
}

const OPERATORS: [&str; 9] = [
    "drop",
    "misspell",
    "retype",
    "duplicate",
    "reindent",
    "tab",
    "empty",
    "unquote",
    "swap case",
];

fn mutate(text: &str, key: &Key, operator: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let block: Vec<String> = lines[key.line..key.end].to_vec();
    let line = lines[key.line].clone();
    let (before, after) = line.split_once(':').unwrap();
    let name = before.trim_start_matches([' ', '-']);
    let lead = &before[..before.len() - name.len()];
    let replace_block = |lines: &mut Vec<String>, with: Vec<String>| {
        lines.splice(key.line..key.end, with);
    };
    match operator {
        "drop" => replace_block(&mut lines, Vec::new()),
        "misspell" => lines[key.line] = format!("{lead}{}q:{after}", &name[..name.len() - 1]),
        "retype" if key.end > key.line + 1 => {
            replace_block(&mut lines, vec![format!("{before}: soup")])
        }
        "retype" => lines[key.line] = format!("{before}: [{{a: 1}}]"),
        "duplicate" if !lead.contains('-') => {
            let twice = [block.clone(), block].concat();
            replace_block(&mut lines, twice);
        }
        "duplicate" => lines.insert(
            key.line + 1,
            format!("{}{name}:{after}", " ".repeat(lead.len())),
        ),
        "reindent" => lines[key.line] = format!(" {line}"),
        "tab" => lines[key.line] = format!("\t{line}"),
        "empty" => replace_block(&mut lines, vec![format!("{before}:")]),
        "unquote" => lines[key.line] = format!("{before}: \"{}", after.trim().trim_matches('"')),
        "swap case" => lines[key.line] = format!("{lead}{}:{after}", name.to_uppercase()),
        _ => unreachable!(),
    }
    lines.join("\n") + "\n"
}

/// Checks what a user would see, and returns whether the workshop was accepted.
fn accepted(sources: &Sources, what: &str) -> Result<Workshop, Problems> {
    let complete = |problems: &Problems| {
        for problem in problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
        {
            let shown = problem.to_string();
            assert!(problem.hint.is_some(), "{what}: no hint\n{shown}");
            assert!(
                problem.file.is_empty()
                    || problem
                        .span
                        .is_some_and(|span| span.line > 0 && span.column > 0),
                "{what}: no place\n{shown}"
            );
        }
        let _ = problems.to_string();
    };
    match Workshop::parse(sources) {
        Ok(parsed) => {
            assert!(!parsed.notes.has_errors());
            complete(&parsed.notes);
            Ok(parsed.workshop)
        }
        Err(problems) => {
            assert!(problems.has_errors(), "{what}: refused without an error");
            complete(&problems);
            Err(problems)
        }
    }
}

fn samples() -> [(&'static str, Sources); 3] {
    // Exercises are mutated one by one: reading all of them each time would only take longer.
    let short = |sources: Sources| Sources {
        exercises: BTreeMap::new(),
        ..sources
    };
    [
        ("hello", short(example("hello"))),
        ("harbour", short(example("harbour"))),
        ("reference", reference()),
    ]
}

fn text(file: &SourceFile) -> String {
    String::from_utf8(file.bytes.clone()).unwrap()
}

#[test]
fn every_key_of_every_configuration_is_mutated() {
    let mut list = String::new();
    for (name, sources) in samples() {
        let config = sources.config.clone().unwrap();
        let original = accepted(&sources, name).unwrap();
        let mut kept: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for key in keys(&text(&config)) {
            for operator in OPERATORS {
                let what = format!("{name}: {operator} {}", key.path);
                let mutant = mutate(&text(&config), &key, operator);
                let sources = Sources {
                    config: Some(SourceFile::new("config.yaml", mutant)),
                    ..sources.clone()
                };
                if let Ok(workshop) = accepted(&sources, &what) {
                    let same = if workshop == original { " (same)" } else { "" };
                    kept.entry(operator)
                        .or_default()
                        .push(format!("{}{same}", key.path));
                }
            }
        }
        for (operator, keys) in kept {
            let is_same = keys.iter().all(|key| key.ends_with("(same)"));
            assert!(
                ["drop", "empty"].contains(&operator) || is_same,
                "{name}, {operator}: {keys:?}"
            );
            if name == "reference" {
                list += &format!("{operator}:\n  {}\n", keys.join("\n  "));
            }
        }
    }
    // Read this list as a design decision: what is left out or empty gets its
    // default, and a line that is indented anew means the same.
    insta::assert_snapshot!("accepted-mutations", list);
}

#[test]
fn every_key_of_the_other_files_is_mutated() {
    for (name, sources) in samples() {
        let mutants = |file: &SourceFile| -> Vec<(String, SourceFile)> {
            let text = text(file);
            let of_key = |key: Key| {
                OPERATORS.map(|operator| {
                    (
                        format!("{name}: {operator} {}", key.path),
                        mutate(&text, &key, operator),
                    )
                })
            };
            let all: Vec<(String, String)> = keys(&text).into_iter().flat_map(of_key).collect();
            all.into_iter()
                .map(|(what, text)| (what, SourceFile::new(file.name.clone(), text)))
                .collect()
        };
        for (what, file) in sources.workshop.iter().flat_map(mutants) {
            let _ = accepted(
                &Sources {
                    workshop: Some(file),
                    ..sources.clone()
                },
                &what,
            );
        }
        for (path, file) in &sources.navigations {
            for (what, mutant) in mutants(file) {
                let mut sources = sources.clone();
                sources.navigations.insert(path.clone(), mutant);
                let _ = accepted(&sources, &what);
            }
        }
    }
}

#[test]
fn every_key_of_every_exercise_is_mutated() {
    let (hello, harbour) = (example("hello"), example("harbour"));
    for file in hello.exercises.values().chain(harbour.exercises.values()) {
        let text = text(file);
        for key in keys(&text) {
            for operator in OPERATORS {
                let mutant = SourceFile::new(file.name.clone(), mutate(&text, &key, operator));
                let mut problems = Problems::default();
                let slug = ExerciseSlug::new("crud-1").unwrap();
                let parsed = arena_workshop::check::parse(&mutant, &slug, &mut problems);
                let what = format!("{}: {operator} {}", file.name, key.path);
                assert!(parsed.is_some() || problems.has_errors(), "{what}");
                for problem in problems.iter() {
                    assert!(
                        problem.span.is_some_and(|span| span.line > 0),
                        "{what}: no place\n{problem}"
                    );
                }
            }
        }
    }
}

#[test]
fn files_that_are_something_else_are_refused() {
    let bomb = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
        text + &format!(
            "a{n}: &a{n} [{}]\n",
            vec![format!("*a{}", n - 1); 10].join(",")
        )
    });
    let wholes: [(&str, Vec<u8>); 6] = [
        ("binary", (0..=255).cycle().take(5_000).collect()),
        ("ten megabytes", b"customer: {name: x}\n".repeat(550_000)),
        ("anchors", bomb.into_bytes()),
        ("deep", "[".repeat(50_000).into_bytes()),
        ("zip", b"PK\x03\x04\x14\0\0\0".to_vec()),
        (
            "html",
            b"<!doctype html>\n<html><body>404: not found</body></html>\n".to_vec(),
        ),
    ];
    for (name, sources) in samples() {
        for (what, bytes) in &wholes {
            let file = |name: &str| Some(SourceFile::new(name, bytes.clone()));
            let what = format!("{name}: {what}");
            assert!(
                accepted(
                    &Sources {
                        config: file("config.yaml"),
                        ..sources.clone()
                    },
                    &what
                )
                .is_err(),
                "{what}"
            );
            assert!(
                accepted(
                    &Sources {
                        participants: file("user_list.csv"),
                        ..sources.clone()
                    },
                    &what
                )
                .is_err(),
                "{what}"
            );
            assert!(
                accepted(
                    &Sources {
                        workshop: file("arena/workshop.yaml"),
                        ..sources.clone()
                    },
                    &what
                )
                .is_err(),
                "{what}"
            );
            let mut sources = sources.clone();
            for file in sources.navigations.values_mut() {
                file.bytes.clone_from(bytes);
            }
            assert!(accepted(&sources, &what).is_err(), "{what}");
        }
    }
}

#[test]
fn marks_and_line_ends_of_other_systems_change_nothing() {
    for (name, sources) in samples() {
        let original = accepted(&sources, name).unwrap();
        let foreign = |file: &SourceFile| {
            SourceFile::new(
                file.name.clone(),
                format!("\u{feff}{}", text(file).replace('\n', "\r\n")),
            )
        };
        let mutant = Sources {
            config: sources.config.as_ref().map(foreign),
            participants: sources.participants.as_ref().map(foreign),
            workshop: sources.workshop.as_ref().map(foreign),
            navigations: sources
                .navigations
                .iter()
                .map(|(path, file)| (path.clone(), foreign(file)))
                .collect(),
            ..sources
        };
        let workshop = accepted(&mutant, name).unwrap();
        assert_eq!(
            (workshop.config, workshop.participants, workshop.navigation),
            (original.config, original.participants, original.navigation)
        );
    }
}

proptest! {
    #[test]
    fn any_yaml_like_text_does_no_harm(text in "([ \t]{0,4}(- )?[a-z<*&?|>%@!{}\\[\\]'\"#~]{0,6}:?[ \t]?[a-z0-9<*&?|>%@!{}\\[\\]'\",:#~\u{e9}-]{0,8}\r?\n){0,12}") {
        let config = SourceFile::new("config.yaml", text.as_str());
        let _ = accepted(&Sources { config: Some(config), ..Sources::default() }, &text);
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let file = |name: &str| SourceFile::new(name, bytes.clone());
        let mut sources = reference();
        sources.config = Some(file("config.yaml"));
        sources.workshop = Some(file("arena/workshop.yaml"));
        let _ = accepted(&sources, "bytes");
    }

    #[test]
    fn a_byte_changed_anywhere_does_no_harm(at in any::<proptest::sample::Index>(), byte in any::<u8>(), is_removed in any::<bool>()) {
        let mut sources = reference();
        let bytes = &mut sources.config.as_mut().unwrap().bytes;
        let at = at.index(bytes.len());
        if is_removed { bytes.remove(at); } else { bytes[at] = byte; }
        let _ = accepted(&sources, &format!("byte {at}"));
    }
}
