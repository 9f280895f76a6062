//! The author's SQL and dumps in PostgreSQL's template.

use arena_database::{DataFile, PostgresAdmin, ProvisionError, Provisioner};

use crate::cluster::{Cluster, program};
use crate::world::{connect, log_in, number};
use crate::{file, name, seat};

/// A database as somebody else has it, with an owner and rights of theirs.
const SOURCE: &str =
    "CREATE ROLE the_owner LOGIN; CREATE ROLE a_reader; CREATE DATABASE source OWNER the_owner;";
const CONTENT: &str = "
    CREATE EXTENSION pg_trgm; CREATE EXTENSION vector; SET ROLE the_owner;
    CREATE SCHEMA shop AUTHORIZATION the_owner;
    CREATE TYPE shop.mood AS ENUM ('good', 'bad; day');
    CREATE TABLE shop.hosts (id serial PRIMARY KEY, name text NOT NULL, mood shop.mood DEFAULT 'good', place vector(3));
    INSERT INTO shop.hosts (name, mood, place) SELECT E'host\\t' || n || E'\\n;\\\\.', 'bad; day', '[1,2,3]' FROM generate_series(1, 1200) n;
    CREATE INDEX hosts_trgm ON shop.hosts USING gin (name gin_trgm_ops);
    CREATE FUNCTION shop.total() RETURNS bigint LANGUAGE plpgsql AS $body$ BEGIN RETURN (SELECT count(*) FROM shop.hosts); END; $body$;
    CREATE FUNCTION shop.twice(n int) RETURNS int BEGIN ATOMIC SELECT n; SELECT 2 * n; END;
    CREATE MATERIALIZED VIEW shop.moods AS SELECT mood, count(*) FROM shop.hosts GROUP BY mood;
    CREATE TABLE public.empty (a int);
    GRANT SELECT ON shop.hosts TO a_reader; COMMENT ON SCHEMA shop IS 'it''s a shop';";

async fn source(cluster: &Cluster) -> DataFile {
    let admin = cluster.admin();
    let password = admin.password.clone().unwrap();
    let postgres = log_in(&admin, &admin.user, &password, "postgres")
        .await
        .unwrap();
    for statement in SOURCE.split_inclusive(';') {
        postgres.batch_execute(statement).await.unwrap();
    }
    let source = log_in(&admin, &admin.user, &password, "source")
        .await
        .unwrap();
    source.batch_execute("GRANT CREATE ON SCHEMA public TO the_owner; GRANT CREATE ON DATABASE source TO the_owner").await.unwrap();
    source.batch_execute(CONTENT).await.unwrap();
    DataFile::new("arena/data/shop.sql", pg_dump(cluster, "source"))
}

/// Returns what `pg_dump` makes of a database, as the superuser.
fn pg_dump(cluster: &Cluster, database: &str) -> Vec<u8> {
    let admin = cluster.admin();
    let mut command = program("pg_dump");
    command
        .args(["--username", &admin.user, "--host", &admin.host, database])
        .env("PGPASSWORD", admin.password.unwrap());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output.stdout
}

#[tokio::test]
async fn a_dump_of_somebody_elses_database_becomes_every_seats_own() {
    let cluster = Cluster::start();
    let dump = source(&cluster).await;
    let text = text_of(&dump);
    assert!(
        text.contains("OWNER TO the_owner")
            && text.contains("FROM stdin")
            && text.contains("\\restrict")
    );
    let admin = PostgresAdmin {
        extensions: vec!["pg_trgm".to_owned()],
        ..cluster.admin()
    };
    let provisioner = connect(&admin, std::slice::from_ref(&dump)).await;
    let ada = seat("ada");
    provisioner.create_seat(&ada).await.unwrap();
    let client = log_in(&admin, "ada", &ada.password, "ada").await.unwrap();
    assert_eq!(number(&client, "SELECT count(*) FROM shop.hosts WHERE name LIKE E'host\\t%\\n;\\\\\\\\.' AND mood = 'bad; day'").await, 1200);
    assert_eq!(
        number(&client, "SELECT shop.total() + shop.twice(4)").await,
        1208
    );
    assert_eq!(number(&client, "SELECT count(*) FROM shop.moods").await, 1);
    // Its schema, sequence, index and function are the seat's own.
    client
        .batch_execute("INSERT INTO shop.hosts (name) VALUES ('x'); DROP INDEX shop.hosts_trgm; CREATE TABLE shop.mine (a int); DROP FUNCTION shop.total(); DROP TABLE empty")
        .await
        .unwrap();
    // Loading it again is skipped: the template is the same database still.
    let password = admin.password.clone().unwrap();
    let postgres = log_in(&admin, &admin.user, &password, "postgres")
        .await
        .unwrap();
    let oid = "SELECT oid::bigint FROM pg_database WHERE datname = 'arena_template'";
    let before = number(&postgres, oid).await;
    provisioner
        .load_template(std::slice::from_ref(&dump))
        .await
        .unwrap();
    assert_eq!(number(&postgres, oid).await, before);
    // Other extensions are another template.
    connect(&cluster_with(&admin, &["pg_trgm", "hstore"]), &[dump]).await;
    assert_ne!(number(&postgres, oid).await, before);
}

fn cluster_with(admin: &PostgresAdmin, extensions: &[&str]) -> PostgresAdmin {
    PostgresAdmin {
        extensions: extensions.iter().map(|name| (*name).to_owned()).collect(),
        ..admin.clone()
    }
}

#[tokio::test]
async fn what_cannot_be_loaded_is_told_with_its_file_and_line() {
    let cluster = Cluster::start();
    let provisioner = Provisioner::connect(&name("arena_template"), None, Some(&cluster.admin()))
        .await
        .unwrap();
    let told = async |text: &str| {
        let refused = provisioner
            .load_template(&[file("arena/data/a.sql", text)])
            .await;
        let error = refused.unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| {
            std::error::Error::source(cause).map_or_else(|| cause.to_string(), ToString::to_string)
        });
        format!("{error}: {}", cause.unwrap_or_default())
    };
    let begin = "CREATE TABLE a (n int);\n\n";
    assert_eq!(
        told(&format!("{begin}SELECT n,\n  nope\nFROM a;")).await,
        "cannot run arena/data/a.sql, line 4 in PostgreSQL: ERROR: column \"nope\" does not exist"
    );
    assert!(
        told(&format!("{begin}COPY a FROM stdin;\nx\n\\.\n"))
            .await
            .contains("a.sql, line 3")
    );
    assert_eq!(
        told(&format!("{begin}\\connect other\n")).await,
        "cannot run arena/data/a.sql, line 3: \\connect changes the database, and a seat has one: make the dump of one database, without --create: "
    );
    assert_eq!(
        told("CREATE EXTENSION dblink;").await,
        "cannot run arena/data/a.sql, line 1: the extension dblink is not among this event's: add it to arena.database.extensions in config.yaml: "
    );
    let missing = Provisioner::connect(
        &name("arena_template"),
        None,
        Some(&cluster_with(&cluster.admin(), &["nowhere"])),
    )
    .await
    .unwrap();
    let missing = missing.load_template(&[]).await.unwrap_err().to_string();
    assert!(missing.contains("has no extension nowhere"), "{missing}");
}

#[tokio::test]
async fn look_alikes_in_the_authors_sql_do_not_run_as_the_superuser() {
    let cluster = Cluster::start();
    let sql = "CREATE FUNCTION trap() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
           IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN CREATE ROLE caught; END IF; RETURN 'x'; END $$;
         CREATE FUNCTION format(text, regprocedure) RETURNS text LANGUAGE sql AS 'SELECT trap()';
         CREATE FUNCTION format(text, text) RETURNS text LANGUAGE sql AS 'SELECT trap()';
         CREATE FUNCTION count(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint FROM trap()';
         CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = unknown, FUNCTION = nameeqtext);";
    let sql = sql.replace(
        "CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = unknown, FUNCTION = nameeqtext);",
        "",
    );
    let provisioner = connect(&cluster.admin(), &[file("a.sql", &sql)]).await;
    let ada = seat("ada");
    provisioner.create_seat(&ada).await.unwrap();
    let admin = cluster.admin();
    let password = admin.password.clone().unwrap();
    let superuser = log_in(&admin, &admin.user, &password, "ada").await.unwrap();
    let caught = "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = 'caught'";
    assert_eq!(number(&superuser, caught).await, 0);
    // With the usual search path the superuser walks into it.
    superuser
        .batch_execute("SELECT format('%s', 'now()'::regprocedure)")
        .await
        .unwrap();
    assert_eq!(number(&superuser, caught).await, 1);
}

#[tokio::test]
async fn a_copy_with_other_rows_than_the_template_is_not_handed_out() {
    let cluster = Cluster::start();
    let sql = "CREATE TABLE hosts AS SELECT generate_series(1, 500) AS id; CREATE TABLE \"it's Odd\" (a int);";
    let provisioner = connect(&cluster.admin(), &[file("a.sql", sql)]).await;
    provisioner.create_seat(&seat("bea")).await.unwrap();
    let admin = cluster.admin();
    let password = admin.password.clone().unwrap();
    let postgres = log_in(&admin, &admin.user, &password, "postgres")
        .await
        .unwrap();
    postgres
        .batch_execute("ALTER DATABASE arena_template ALLOW_CONNECTIONS true")
        .await
        .unwrap();
    let inside = log_in(&admin, &admin.user, &password, "arena_template")
        .await
        .unwrap();
    inside
        .batch_execute("DELETE FROM hosts WHERE id > 400")
        .await
        .unwrap();
    drop(inside);
    postgres
        .batch_execute("ALTER DATABASE arena_template ALLOW_CONNECTIONS false")
        .await
        .unwrap();
    let refused = provisioner.create_seat(&seat("ada")).await;
    assert!(
        matches!(refused, Err(ProvisionError::Unlike { ref difference, .. }) if difference == "public.hosts has 400 of 500 rows"),
        "{refused:?}"
    );
    assert_eq!(
        provisioner.list().await.unwrap().len(),
        1,
        "it is not complete"
    );
}

fn text_of(file: &DataFile) -> String {
    match &file.content {
        arena_database::Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?} is not in memory"),
    }
}
