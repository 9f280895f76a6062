//! SQL steps on a real PostgreSQL, asked as a seat's own role.

use std::sync::Arc;
use std::time::Duration;

use arena_database::{DataFile, Provisioner, SeatDatabase};
use arena_grader::{Limits, PostgresAccess, SeatAccess, grade};
use arena_workshop::DatabaseName;
use tokio_postgres::{Client, Config, NoTls};

use crate::app::{App, exercise, first_message, json};
use crate::cluster::Cluster;

const SQL: &str = "CREATE TABLE hosts (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE listings (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, host_id integer REFERENCES hosts,
  town text NOT NULL, price numeric(8, 2), opened date, CHECK (price > 0), UNIQUE (town, price));
CREATE INDEX listings_town ON listings (town);
INSERT INTO hosts VALUES (1, 'Ada'), (2, 'Bo');
INSERT INTO listings (host_id, town, price, opened) SELECT 1 + n % 2, 'town ' || n, n + 0.5, '2026-01-02' FROM generate_series(1, 20) n;";

/// A seat with its database and an app that answers as told.
pub(crate) struct World {
    cluster: Cluster,
    app: App,
}

impl World {
    pub(crate) async fn start(app: App) -> Self {
        Self::with(app, Cluster::start()).await
    }

    async fn with(app: App, cluster: Cluster) -> Self {
        let template = DatabaseName::new("arena_template").unwrap();
        let provisioner = Provisioner::connect(&template, None, Some(&cluster.admin()))
            .await
            .unwrap();
        let data = DataFile::new("data.sql", SQL);
        provisioner.load_template(&[data]).await.unwrap();
        let seat = SeatDatabase {
            name: DatabaseName::new("ada").unwrap(),
            password: password(),
        };
        provisioner.create_seat(&seat).await.unwrap();
        Self { cluster, app }
    }

    fn seat(&self) -> SeatAccess {
        let admin = self.cluster.admin();
        let (user, database) = ("ada".to_owned(), "ada".to_owned());
        let postgres = PostgresAccess {
            host: admin.host,
            port: admin.port,
            database,
            user,
            password: password(),
            tls: admin.tls,
        };
        SeatAccess {
            postgres: Some(postgres),
            ..self.app.seat()
        }
    }

    /// The message of the first failed check; empty when all passed.
    pub(crate) async fn told(&self, checks: &str) -> String {
        let grading = grade(&exercise(checks), &self.seat(), &Limits::default()).await;
        grading
            .checks
            .into_iter()
            .find_map(|check| check.message)
            .unwrap_or_default()
    }

    pub(crate) async fn as_seat(&self) -> Client {
        self.log_in("ada", &password()).await
    }

    pub(crate) async fn as_superuser(&self) -> Client {
        let admin = self.cluster.admin();
        let password = admin.password.unwrap_or_default();
        self.log_in(&admin.user, &password).await
    }

    async fn log_in(&self, user: &str, password: &str) -> Client {
        let admin = self.cluster.admin();
        let mut config = Config::new();
        config
            .host(&admin.host)
            .port(admin.port)
            .user(user)
            .password(password)
            .dbname("ada");
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

fn password() -> String {
    "a-password-of-ada-0123456789".to_owned()
}

#[tokio::test]
async fn rows_plans_and_facts_are_read() {
    let world = World::start(App::start(|_| json(200, "[]"))).await;
    let told = world
        .told(
            r#"
  - name: rows
    sql: { query: "SELECT town, price, opened FROM listings WHERE price > $1 AND town <> $2 ORDER BY price;", parameters: [18, "town 20"] }
    expect:
      - { result: { equals: [{ town: "town 18", price: 18.5, opened: "2026-01-02" }, { town: "town 19", price: 19.5, opened: "2026-01-02T00:00:00Z" }] } }
  - name: plan
    sql: { plan: "SELECT * FROM listings WHERE town = 'town 3'" }
    expect: [{ result.indexes: [listings_town] }, { result.sequential: [] }]
  - name: no plan
    sql: { plan: "SELECT * FROM listings WHERE opened < now()" }
    expect: [{ result.indexes: [] }, { result.sequential: [listings] }]
  - name: facts
    sql: { table: listings }
    expect:
      - { result.exists: true }
      - { result.kind: table }
      - { result.columns: { contains: { name: price, type: "numeric(8,2)", nullable: true } } }
      - { "result.constraints": { contains: { kind: foreign key, columns: [host_id], references: hosts } } }
      - { "result.constraints": { contains: { kind: unique, columns: [town, price] } } }
      - { "result.indexes": { contains: { name: listings_town, unique: false, method: btree, columns: [town] } } }
  - name: no facts
    sql: { table: nowhere }
    expect: [{ result.exists: false }, { result.kind: absent }, { result.columns: [] }]
"#,
        )
        .await;
    assert_eq!(told, "");
}

#[tokio::test]
async fn markers_are_seen_by_the_app_and_gone_afterwards_whatever_happens() {
    let world = World::start(App::start(|_| json(500, "{}"))).await;
    let checks = r#"
  - name: marker
    given:
      host: { sql: { insert: hosts, with: { id: "{{ random.integer }}", name: "{{ random.name }}'s" } } }
      place: { sql: { insert: listings, with: { host_id: "{{ host.id }}", town: "{{ random.word }}", price: 3 } } }
      seen: { sql: { query: "SELECT l.id FROM listings l JOIN hosts h ON h.id = l.host_id WHERE h.name = $1", parameters: ["{{ host.name }}"] } }
    request: { get: /api }
    expect:
      - { seen: [{ id: "{{ place.id }}" }] }
      - { status: 200, otherwise: "Your route answered {{ status }}." }
"#;
    assert_eq!(world.told(checks).await, "Your route answered 500.");
    let left = "SELECT (SELECT count(*) FROM hosts) + (SELECT count(*) FROM listings)";
    let left: i64 = world
        .as_seat()
        .await
        .query_one(left, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 22);
}

#[tokio::test]
async fn data_that_lies_or_is_gone_is_told() {
    let world = World::start(App::start(|_| json(200, "[]"))).await;
    let rows = "  - name: x\n    given: { rows: { sql: { query: SELECT id FROM listings } } }\n    request: { get: / }\n    expect: [{ body: \"{{ rows }}\" }]\n";
    let client = world.as_seat().await;
    client.batch_execute("DELETE FROM listings").await.unwrap();
    assert_eq!(
        world.told(rows).await,
        "restore your data first: the query gives 0 rows where this check needs at least 1"
    );
    client
        .batch_execute(
            "INSERT INTO listings (town, price) SELECT 'x', n FROM generate_series(1, 2000) n",
        )
        .await
        .unwrap();
    assert_eq!(
        world.told(rows).await,
        "your tables have more than 1000 rows here: restore your data"
    );
    client.batch_execute("DROP TABLE listings; CREATE VIEW listings AS SELECT 1 AS id, repeat('x', 5000000) AS town").await.unwrap();
    let fat = world.told(&rows.replace("SELECT id", "SELECT *")).await;
    assert_eq!(
        fat,
        "your tables hold far larger rows here than they should: restore your data"
    );
    client
        .batch_execute(
            "CREATE OR REPLACE VIEW listings AS SELECT 1 AS id, pg_sleep(60)::text AS town",
        )
        .await
        .unwrap();
    let limits = Limits {
        database: Duration::from_millis(300),
        ..Limits::default()
    };
    let grading = grade(
        &exercise(&rows.replace("SELECT id", "SELECT *")),
        &world.seat(),
        &limits,
    )
    .await;
    assert_eq!(
        first_message(grading),
        "your PostgreSQL did not answer within 0.3 s"
    );
    client.batch_execute("DROP VIEW listings").await.unwrap();
    assert_eq!(
        world.told(rows).await,
        "your PostgreSQL says: relation \"listings\" does not exist"
    );
}

#[tokio::test]
async fn a_role_with_look_alikes_of_postgresqls_functions_forges_nothing() {
    let world = World::start(App::start(|_| json(200, "[]"))).await;
    let client = world.as_seat().await;
    client
        .batch_execute(
            "CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql AS 'SELECT ''forged''';
             ALTER ROLE ada SET search_path = public, pg_catalog",
        )
        .await
        .unwrap();
    // Negative control: for the role itself the forgery works.
    let forged: String = world
        .as_seat()
        .await
        .query_one("SELECT lower('REAL')", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(forged, "forged");
    let checks = "  - name: x\n    sql: { query: SELECT lower('REAL') AS word }\n    expect: [{ result: [{ word: real }] }]\n";
    assert_eq!(world.told(checks).await, "");
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_server_are_told() {
    let world = World::start(App::start(|_| json(200, "[]"))).await;
    let checks = "  - name: x\n    sql: { query: SELECT 1 AS one }\n    expect: [{ result: [{ one: 1 }] }]\n";
    let told = async |change: fn(&mut PostgresAccess)| {
        let mut seat = world.seat();
        seat.postgres.as_mut().map(change);
        first_message(grade(&exercise(checks), &seat, &Limits::default()).await)
    };
    assert_eq!(
        told(|access| access.password.push('x')).await,
        "your PostgreSQL refuses your seat's password: ask a facilitator"
    );
    assert_eq!(
        told(|access| access.port = 1).await,
        "your PostgreSQL does not answer: wait a moment and try again, or ask a facilitator"
    );
    let none = SeatAccess {
        postgres: None,
        samples: Arc::default(),
        ..world.seat()
    };
    assert_eq!(
        first_message(grade(&exercise(checks), &none, &Limits::default()).await),
        "this event has no PostgreSQL"
    );
}

#[tokio::test]
async fn a_server_somewhere_else_is_asked_encrypted() {
    let world = World::with(App::start(|_| json(200, "[]")), Cluster::start_encrypted()).await;
    let checks = "  - name: x\n    sql: { query: \"SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()\" }\n    expect: [{ result: [{ ssl: true }] }]\n";
    let told = async |host: &str, sslmode: &str| {
        let (uri, roots) = world.cluster.address(host, "arena");
        let options = format!("?sslmode={sslmode}&sslrootcert={}", roots.display());
        let server = arena_database::PostgresAdmin::parse(&format!("{uri}{options}")).unwrap();
        let mut seat = world.seat();
        if let Some(access) = seat.postgres.as_mut() {
            (access.host, access.tls) = (server.host, server.tls);
        }
        let grading = grade(&exercise(checks), &seat, &Limits::default()).await;
        let message = grading.checks.into_iter().find_map(|check| check.message);
        message.unwrap_or_default()
    };
    assert_eq!(told("localhost", "verify-full").await, "");
    let impostor = told("127.0.0.1", "verify-full").await;
    assert!(impostor.contains("does not answer"), "{impostor}");
}
