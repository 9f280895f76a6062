//! A whole workshop: what the files say together, every mistake at once.

use arena_workshop::{Severity, SourceFile, Sources, Workshop};

use crate::folder::{example, reference};

fn shown(sources: &Sources) -> String {
    match Workshop::parse(sources) {
        Ok(parsed) => {
            let mut text = format!("{} ({})\n", parsed.workshop.title, parsed.workshop.event);
            for exercise in &parsed.workshop.exercises {
                let needs: Vec<String> = exercise
                    .needs
                    .iter()
                    .map(|need| format!("{need:?}"))
                    .collect();
                text += &format!(
                    "{} {:?} page {} files {:?} needs {} checks {}\n",
                    exercise.slug,
                    exercise.title,
                    exercise.page.as_deref().unwrap_or("-"),
                    exercise.files,
                    needs.join("+"),
                    exercise.checks.len()
                );
            }
            let seats: Vec<&str> = parsed
                .workshop
                .participants
                .seats
                .iter()
                .map(|seat| seat.id.as_str())
                .collect();
            let answers: Vec<&str> = parsed
                .workshop
                .needed_answers
                .iter()
                .map(|slug| slug.as_str())
                .collect();
            format!(
                "{text}seats: {}\nneeded answers: {}\n",
                seats.join(" "),
                answers.join(" ")
            )
        }
        Err(problems) => {
            let shown = problems
                .iter()
                .filter(|problem| problem.severity > Severity::Note);
            shown
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        }
    }
}

#[test]
fn the_samples_are_without_a_mistake() {
    for name in ["hello", "harbour"] {
        let parsed =
            Workshop::parse(&example(name)).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(parsed.notes.is_empty(), "{}", parsed.notes);
    }
}

#[test]
fn a_workshop_without_a_folder_of_arenas_own_works() {
    insta::assert_snapshot!(shown(&reference()));
}

#[test]
fn mistakes_of_all_files_are_shown_at_once() {
    let mut sources = reference();
    sources.config = Some(SourceFile::new(
        "config.yaml",
        "customer: {name: Acme}\nscenario:\n  backend: serverr\n  frontend: app\n  instructions:\n    base: navigation-guided.yml\n    sections:\n    - {title: Welcom}\n    - {title: CRUD Operations, content: [/crud/3/]}\n",
    ));
    sources.participants = Some(SourceFile::new(
        "user_list.csv",
        "name,surname,email\nA,B,ada\n",
    ));
    sources.workshop = Some(SourceFile::new("arena/workshop.yaml", "titel: X\n"));
    sources.exercises.insert(
        "arena/exercises/crud-1.yaml".to_owned(),
        SourceFile::new("arena/exercises/crud-1.yaml", "titel: Y\n"),
    );
    insta::assert_snapshot!(shown(&sources));
}

#[test]
fn questions_between_files_are_asked() {
    let mut sources = reference();
    sources.config = Some(SourceFile::new(
        "config.yaml",
        "customer: {name: Acme}\nscenario: {backend: serverr, instructions: {base: navigation.yml}}\n",
    ));
    insta::assert_snapshot!(shown(&sources));

    let mut sources = reference();
    let check = "files: [server/src/lab/crud-3.lab.js]\nafter: [crud-9]\nchecks:\n- name: answers\n  request: { to: backend, get: / }\n  expect:\n  - { status: 200, otherwise: no }\n";
    sources.exercises.insert(
        "arena/exercises/crud-2.yaml".to_owned(),
        SourceFile::new("arena/exercises/crud-2.yaml", check),
    );
    sources.exercises.insert(
        "arena/exercises/crud-3.yaml".to_owned(),
        SourceFile::new("arena/exercises/crud-3.yaml", check),
    );
    sources.exercises.insert(
        "arena/exercises/Crud 4.yaml".to_owned(),
        SourceFile::new("arena/exercises/Crud 4.yaml", check),
    );
    sources.workshop = Some(SourceFile::new(
        "arena/workshop.yaml",
        "first_file: server/src/lab/crud-1.lab.jss\ndata: {mongodb: [arena/data/x.ndjson]}\n",
    ));
    insta::assert_snapshot!(shown(&sources));

    insta::assert_snapshot!(shown(&Sources::default()), @r"
    error: there is no config.yaml
      help: write one with two lines: `customer:` and, indented by two spaces, `name: …`
    ");
}

#[test]
fn an_event_without_seats_is_refused() {
    let config = SourceFile::new(
        "config.yaml",
        "customer: {name: Acme}\nmongodb: {additional_users_count: 0}\n",
    );
    let sources = Sources {
        config: Some(config),
        ..Sources::default()
    };
    insta::assert_snapshot!(shown(&sources));
}

#[test]
fn an_authors_file_stays_inside_the_workshop() {
    let mut sources = reference();
    let text = "apps:\n  backend: {folder: ../server, env: {'A B': x, OK: y}}\n  frontend: {static: [out, /etc]}\nremoved: [.git/hooks]\nnode: 12\n";
    sources.workshop = Some(SourceFile::new("arena/workshop.yaml", text));
    insta::assert_snapshot!(shown(&sources));
    sources.workshop = Some(SourceFile::new(
        "arena/workshop.yaml",
        text.replace("node: 12", "node: 22"),
    ));
    insta::assert_snapshot!(shown(&sources));
}

#[test]
fn exercises_that_come_after_each_other_are_refused() {
    let mut sources = reference();
    for (slug, after) in [("crud-2", "crud-index"), ("crud-index", "crud-2")] {
        let path = format!("arena/exercises/{slug}.yaml");
        let text = format!(
            "after: [{after}]\nchecks:\n- name: answers\n  request: {{ to: backend, get: / }}\n  expect:\n  - {{ status: 200, otherwise: no }}\n"
        );
        sources
            .exercises
            .insert(path.clone(), SourceFile::new(path, text));
    }
    insta::assert_snapshot!(shown(&sources));
}
