//! `config.yaml`: the reference's keys, defaults, mistakes, secrets and the schema.

use arena_workshop::config::{self, ParsedConfig};
use arena_workshop::{Problems, Severity, SourceFile};

use crate::REFERENCE_CONFIG;

fn parse(text: &str) -> (Option<ParsedConfig>, Problems) {
    let mut problems = Problems::default();
    let parsed = config::parse(&SourceFile::new("config.yaml", text), &mut problems);
    problems.sort();
    (parsed, problems)
}

fn mistakes(text: &str) -> String {
    let (parsed, problems) = parse(text);
    assert_eq!(parsed, None);
    problems.to_string()
}

#[test]
fn every_key_of_the_reference_is_accepted_and_cloud_keys_are_noted() {
    let (parsed, problems) = parse(REFERENCE_CONFIG);
    insta::assert_debug_snapshot!("reference-config", parsed.unwrap());
    let notes: Vec<String> = problems
        .iter()
        .map(|problem| {
            assert_eq!(problem.severity, Severity::Note);
            format!("{}: {}", problem.span.unwrap().line, problem.message)
        })
        .collect();
    insta::assert_snapshot!("reference-notes", notes.join("\n"));
}

#[test]
fn older_and_shorter_forms_are_accepted() {
    let (parsed, problems) = parse(
        "customer: {name: Acme}\nscenario:\n  leaderboard: score\n  prizes: {enabled: true, where: bar, when: late}\n  database: {postgresql: true}\n  llm: {enabled: true, proxy_enabled: true}\n",
    );
    let config = parsed.unwrap().config;
    assert!(problems.is_empty(), "{problems}");
    assert_eq!(config.scenario.leaderboard.r#type.as_str(), "score");
    assert!(config.scenario.database.has_postgres() && config.scenario.llm.has_proxy());
    assert_eq!(
        config.scenario.prizes.unwrap().r#where.as_deref(),
        Some("bar")
    );
}

#[test]
fn a_name_is_enough_and_every_default_is_told() {
    let (parsed, problems) = parse("customer:\n  name: Acme\n");
    assert!(problems.is_empty());
    insta::assert_debug_snapshot!(parsed.unwrap().defaults);
}

#[test]
fn what_a_schema_cannot_say_is_checked_too() {
    insta::assert_snapshot!(mistakes(
        "customer: {name: '…'}\n\
         mongodb:\n  instance_size: M35\n  cluster_region: us-east-2\n  additional_users_count: many\n\
         aws: {region: US_EAST_2}\n\
         domain: {email: nobody}\n\
         scenario:\n  repository: --upload-pack=x\n  frontend: ../app\n  leaderboard: {type: fastest, close_on: tomorrow}\n  sections: []\n  instructions:\n    base: /etc/passwd\n"
    ));
    insta::assert_snapshot!(mistakes(
        "customer: {name: Acme}\n\
         scenario:\n  database: {postgres: true, postgresql: false}\n  leaderboard: timd\n  instructions:\n    sections:\n    - {title: A, content: [crud/1]}\n\
         arena:\n  seats: {outbound: [registry.acme.test, '10.0.0.1', 'https://x.org']}\n  database: {mongodb: db.example.com}\n  join: [links]\n"
    ));
    insta::assert_snapshot!(mistakes(
        "customer: {name: Acme}\n\
         scenario:\n  database: {postgres: true, postgresql: false}\n  instructions:\n    sections:\n    - {title: A, content: [crud/1]}\n\
         arena:\n  seats: {outbound: [registry.acme.test, '10.0.0.1', 'https://x.org']}\n  database: {mongodb: db.example.com}\n"
    ));
    insta::assert_snapshot!(mistakes(""));
}

#[test]
fn a_quota_that_cannot_work_is_told_with_what_can() {
    let with = |quota: &str| {
        mistakes(&format!(
            "customer: {{name: Acme}}\nscenario: {{}}\narena:\n  quota: {quota}\n"
        ))
    };
    for (quota, told) in [
        ("{megabytes: 1}", "arena.quota.megabytes"),
        ("{megabytes: lots}", "arena.quota.megabytes"),
        ("{megabytes: -5}", "arena.quota.megabytes"),
        ("{connections: 2}", "arena.quota.connections"),
        ("{statement_seconds: 0}", "arena.quota.statement_seconds"),
        (
            "{collections: 50, indexes: 10}",
            "every collection has an index",
        ),
        ("{megabyte: 100}", "megabytes"),
    ] {
        let said = with(quota);
        assert!(said.contains(told), "{quota}: {said}");
        assert!(said.contains("config.yaml:4"), "{quota}: {said}");
    }
}

#[test]
fn extensions_that_let_a_seat_out_are_refused_with_the_reason() {
    let config = |names: &str| {
        format!(
            "customer: {{name: Acme}}\nscenario: {{database: {{postgres: true}}}}\narena:\n  database: {{extensions: {names}}}\n"
        )
    };
    assert!(parse(&config("[pg_trgm, postgis, uuid-ossp]")).0.is_some());
    let refused = mistakes(&config("[dblink, pg_trgn, nowhere]"));
    for part in [
        "seats cannot have the extension `dblink`: it opens connections from the server to anywhere",
        "did you mean `pg_trgm`?",
        "`nowhere` is not an extension that seats can have",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

#[test]
fn secrets_are_shown_neither_by_debug_nor_by_notes() {
    let (parsed, problems) = parse(REFERENCE_CONFIG);
    let shown = format!("{:?}\n{problems}", parsed.unwrap());
    for secret in [
        "MongoArena",
        "ArenaAdminPassword",
        "PRIVATE_KEY",
        "admin:secret",
    ] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn the_schema_documents_every_key() {
    fn undocumented(schema: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        for (key, property) in schema
            .get("properties")
            .and_then(|properties| properties.as_object())
            .into_iter()
            .flatten()
        {
            if property.get("description").is_none() {
                found.push(format!("{path}.{key}"));
            }
            undocumented(property, &format!("{path}.{key}"), found);
        }
        for (name, definition) in schema
            .get("$defs")
            .and_then(|definitions| definitions.as_object())
            .into_iter()
            .flatten()
        {
            undocumented(definition, name, found);
        }
    }
    let mut found = Vec::new();
    undocumented(&config::schema(), "", &mut found);
    assert_eq!(found, Vec::<String>::new());
}
