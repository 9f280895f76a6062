//! The plan: the same for the same workshop, without secrets, and its difference.

use std::path::Path;

use arena_workshop::plan::{
    Content, Isolation, MongodbSource, PostgresSource, SecretName, difference, plan,
};
use arena_workshop::{Capability, Plan, SourceFile, Sources, Target, Workshop};

use crate::folder::{example, reference};

fn target() -> Target {
    Target {
        port: 8080,
        content: Content::Folder("/workshops/harbour".to_owned()),
        mongodb: MongodbSource::BuiltIn,
        mongodb_seen: None,
        postgres: PostgresSource::BuiltIn,
        isolation: Isolation::OwnUser,
        first_port: 21_000,
    }
}

fn planned(sources: &Sources, target: &Target) -> Plan {
    let parsed = Workshop::parse(sources).unwrap_or_else(|problems| panic!("{problems}"));
    plan(&parsed.workshop, target)
}

fn with_config(mut sources: Sources, config: &str) -> Sources {
    sources.config = Some(SourceFile::new("config.yaml", config));
    sources
}

#[test]
fn the_same_workshop_gives_the_same_plan_byte_for_byte() {
    let json = |sources: &Sources| serde_json::to_string(&planned(sources, &target())).unwrap();
    assert_eq!(json(&reference()), json(&reference()));
    let back: Plan = serde_json::from_str(&json(&reference())).unwrap();
    assert_eq!(back, planned(&reference(), &target()));
}

#[test]
fn a_plan_is_shown_as_a_tree() {
    insta::assert_snapshot!(planned(&reference(), &target()).tree());
}

#[test]
fn the_samples_are_planned() {
    let plan = planned(&example("harbour"), &target());
    assert!(
        !plan.databases.mongodb.unwrap().data.is_empty()
            && !plan.databases.postgres.unwrap().data.is_empty()
    );
    let apps: Vec<&str> = plan
        .template
        .apps
        .iter()
        .map(|app| app.kind.as_str())
        .collect();
    assert_eq!(apps, ["backend", "frontend"]);
    let plan = planned(&example("hello"), &target());
    assert_eq!(
        (plan.databases.mongodb, plan.databases.postgres),
        (None, None)
    );
    assert_eq!(
        plan.template.apps[0].start.as_deref().unwrap(),
        ["npm", "start"]
    );
}

#[test]
fn a_workshop_of_the_reference_is_planned() {
    insta::assert_json_snapshot!(planned(&reference(), &target()));
}

#[test]
fn configured_databases_bring_their_own_secrets() {
    let plan = planned(
        &reference(),
        &Target {
            mongodb: MongodbSource::Uri,
            postgres: PostgresSource::Uri,
            ..target()
        },
    );
    let secrets: Vec<&str> = plan
        .secrets
        .iter()
        .map(|secret| secret.0.as_str())
        .collect();
    assert!(
        secrets.contains(&"mongodb-uri")
            && secrets.contains(&"postgres-uri")
            && secrets.contains(&"seat/ada/mongodb-uri"),
        "{secrets:?}"
    );
    assert_eq!(
        plan.seats[0].environment["MONGODB_URI"],
        "${secret:seat/ada/mongodb-uri}"
    );
    let services: Vec<&str> = plan
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert_eq!(
        services,
        ["outbound", "control", "portal", "instructions", "gateway"]
    );
}

#[test]
fn no_secret_of_the_configuration_is_in_the_plan() {
    let json = serde_json::to_string(&planned(&reference(), &target())).unwrap();
    for secret in [
        "MongoArena",
        "ArenaAdminPassword",
        "PRIVATE_KEY",
        "admin:secret",
    ] {
        assert!(!json.contains(secret), "{secret}");
    }
}

#[test]
fn seat_settings_have_the_seats_own_secrets_only() {
    let plan = planned(&reference(), &target());
    let secret = |name: &SecretName| Some(format!("value-of-{name}${{DATABASE_NAME}}"));
    let settings = plan.seat_settings(&plan.seats[1], secret).unwrap();
    let json = serde_json::to_string_pretty(&settings).unwrap();
    assert!(!json.contains("seat/ada/"));
    assert_eq!(
        settings.environment["PGPASSWORD"],
        "value-of-seat/grace-hopper/database${DATABASE_NAME}"
    );
    insta::assert_snapshot!(json);
    let missing = plan.seat_settings(&plan.seats[0], |_| None).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "the secret seat/ada/database has no value"
    );
}

#[test]
fn a_difference_names_what_changes() {
    let before = "customer: {name: Acme}\nmongodb: {additional_users_count: 1}\nscenario: {backend: server, frontend: app, database: {postgres: false}, instructions: {base: navigation-guided.yml}}\n";
    let after = "customer: {name: Acme}\nmongodb: {additional_users_count: 2}\nscenario: {backend: server, database: {postgres: true}, leaderboard: score, instructions: {base: navigation-guided.yml, sections: [{title: CRUD Operations}]}}\narena: {title: New, seats: {outbound: none}}\n";
    let old = planned(&with_config(reference(), before), &target());
    let mut sources = with_config(reference(), after);
    sources.participants = Some(SourceFile::new(
        "user_list.csv",
        "name,surname,email\nAda,King,ada@example.com\n",
    ));
    let new = planned(&sources, &target());
    insta::assert_snapshot!(difference(&old, &new));
    assert!(difference(&old, &old).is_empty());
}

#[test]
fn names_of_work_folders_are_plain() {
    for (url, name) in [
        ("https://github.com/x/my-workshop.git", "my-workshop"),
        ("git@example.com:team/labs.git", "labs"),
        ("/srv/Workshops/Über uns/", "ber-uns"),
        ("/", "workshop"),
        ("https://x.org/..", "workshop"),
    ] {
        let content = Content::Repository {
            url: url.to_owned(),
            branch: None,
            version: None,
        };
        let plan = planned(
            &reference(),
            &Target {
                content,
                ..target()
            },
        );
        assert_eq!(plan.template.repository, name, "{url}");
    }
}

#[test]
fn what_each_way_to_a_mongodb_offers_is_decided_once() {
    let offers: Vec<String> = MongodbSource::ALL
        .iter()
        .map(|source| {
            let can: Vec<&str> = source
                .capabilities()
                .iter()
                .map(|one| one.as_str())
                .collect();
            format!("{}: {}", source.choice(), can.join(", "))
        })
        .collect();
    insta::assert_snapshot!(offers.join("\n"), @r"
    builtin: mongodb, vector, transactions
    mongod: mongodb, transactions, change-streams
    atlas-local: mongodb, atlas-search, vector, transactions, change-streams
    mongodb://… or mongodb+srv://…: mongodb, transactions, change-streams
    ");
    let standalone = Target {
        mongodb: MongodbSource::Uri,
        mongodb_seen: Some([Capability::Mongodb].into()),
        ..target()
    };
    let plan = planned(&reference(), &standalone);
    assert!(
        !plan
            .databases
            .capabilities
            .contains(&Capability::Transactions),
        "what was seen counts"
    );
}

/// The table in the docs is what the model says.
#[test]
fn the_table_for_choosing_a_database_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/database/choosing.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (front, rest) = page.split_once("choosing -->\n").unwrap();
    let (_, end) = rest.split_once("<!-- end -->").unwrap();
    let table = arena_workshop::plan::choosing_table();
    let wanted = format!("{front}choosing -->\n\n{table}\n<!-- end -->{end}");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        page == wanted,
        "{} is stale; its comment says how to make it anew",
        path.display()
    );
}

#[test]
fn without_isolation_there_is_one_seat_with_ports_of_its_own() {
    let open = Target {
        isolation: Isolation::None,
        ..target()
    };
    let plan = planned(&example("harbour"), &open);
    let [seat] = plan.seats.as_slice() else {
        panic!("{} seats are not separated", plan.seats.len());
    };
    let value = |name: &str| seat.environment[name].as_str();
    assert_eq!(value("SERVICE_NAME"), "http://localhost:21000");
    assert_eq!(value("PGPORT"), "21004");
    assert!(value("MONGODB_URI").contains("@127.0.0.1:21003/"));
    let ports: Vec<u16> = seat.forwards.iter().map(|forward| forward.port).collect();
    assert_eq!(ports, [21003, 21004], "and the machine's own way out");
    assert_eq!(plan.template.apps[0].port, Some(21000));
    assert_eq!(plan.template.apps[0].env_file["PORT"], "21000");
}
