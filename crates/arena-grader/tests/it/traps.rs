//! Traps that a participant may set in the seat's own PostgreSQL relations: what looks like the
//! workshop's table runs the participant's code in whoever reads it. Here the trap says as whom it
//! ran: the grader is caught as the seat itself, which gains nothing. Each is sprung by a superuser
//! first, who is caught with all its rights: the trap is real.

use crate::app::{App, json};
use crate::postgres::World;

const TRAP: &str = "CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught as %', current_user; END $$;
CREATE FUNCTION trap_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM trap(); RETURN NEW; END $$;";

/// Sets a trap as the seat, springs it as the superuser by `bait`, then as the grader by `check`.
async fn caught(trap: &str, bait: &str, check: &str) {
    let world = World::start(App::start(|_| json(200, "[]"))).await;
    let ada = world.as_seat().await;
    ada.batch_execute(TRAP).await.unwrap();
    ada.batch_execute(trap).await.unwrap();
    let superuser = world.as_superuser().await;
    let sprung = superuser.batch_execute(bait).await.unwrap_err();
    let sprung = sprung
        .as_db_error()
        .unwrap_or_else(|| panic!("{trap}: {sprung}"));
    assert_eq!(sprung.message(), "caught as arena", "{trap}");
    let checks = format!("  - name: x\n    {check}\n    expect: [{{ result: [] }}]\n");
    assert_eq!(
        world.told(&checks).await,
        "your PostgreSQL says: caught as ada",
        "{trap}"
    );
}

/// The grader inserts rows, too.
const INSERT: &str = "given: { row: { sql: { insert: hosts, with: { id: 77, name: x } } } }\n    sql: { query: SELECT 1 AS one }";
const INSERT_BAIT: &str = "INSERT INTO hosts (id, name) VALUES (77, 'x')";

#[tokio::test]
async fn a_view_in_a_tables_place() {
    let trap = "ALTER TABLE hosts RENAME TO real; CREATE VIEW hosts AS SELECT trap() AS id, name FROM real";
    caught(
        trap,
        "SELECT id FROM hosts",
        "sql: { query: SELECT id FROM hosts }",
    )
    .await;
}

#[tokio::test]
async fn a_function_that_looks_like_postgresqls() {
    let trap = "CREATE FUNCTION upper(varchar) RETURNS text LANGUAGE sql AS 'SELECT trap()::text'";
    let query = "SELECT upper(name::varchar) AS u FROM hosts";
    caught(trap, query, &format!("sql: {{ query: \"{query}\" }}")).await;
}

#[tokio::test]
async fn an_operator() {
    let trap =
        "CREATE FUNCTION more(numeric, int) RETURNS bool LANGUAGE sql AS 'SELECT trap() > 0';
        CREATE OPERATOR public.> (LEFTARG = numeric, RIGHTARG = int, FUNCTION = more)";
    let query = "SELECT id FROM listings WHERE price > 3";
    caught(trap, query, &format!("sql: {{ query: \"{query}\" }}")).await;
}

#[tokio::test]
async fn a_cast() {
    let trap = "CREATE TYPE town AS (t text); CREATE FUNCTION told(town) RETURNS text LANGUAGE sql AS 'SELECT trap()::text';
        CREATE CAST (town AS text) WITH FUNCTION told(town) AS IMPLICIT;
        ALTER TABLE hosts ALTER name TYPE town USING ROW(name)::town";
    let query = "SELECT name::text AS n FROM hosts";
    caught(trap, query, &format!("sql: {{ query: \"{query}\" }}")).await;
}

#[tokio::test]
async fn a_cast_that_makes_the_json() {
    let trap = "CREATE TYPE town AS (t text); CREATE FUNCTION told(town) RETURNS json LANGUAGE sql AS 'SELECT trap()::text::json';
        CREATE CAST (town AS json) WITH FUNCTION told(town);
        ALTER TABLE hosts ALTER name TYPE town USING ROW(name)::town";
    caught(
        trap,
        "SELECT name::json FROM hosts",
        "sql: { query: \"SELECT name::json AS n FROM hosts\" }",
    )
    .await;
}

#[tokio::test]
async fn a_trigger() {
    let trap = "CREATE TRIGGER t BEFORE INSERT ON hosts FOR EACH ROW EXECUTE FUNCTION trap_row()";
    caught(trap, INSERT_BAIT, INSERT).await;
}

#[tokio::test]
async fn a_default() {
    let trap =
        "ALTER TABLE hosts ADD COLUMN more int; ALTER TABLE hosts ALTER more SET DEFAULT trap()";
    caught(trap, INSERT_BAIT, INSERT).await;
}

#[tokio::test]
async fn a_check_of_a_table() {
    let trap = "CREATE FUNCTION fine(text) RETURNS bool LANGUAGE sql AS 'SELECT trap() > 0';
        ALTER TABLE hosts ADD CHECK (fine(name)) NOT VALID";
    caught(trap, INSERT_BAIT, INSERT).await;
}

#[tokio::test]
async fn a_type_with_a_check() {
    let trap = "CREATE FUNCTION fine(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN $1 LIKE 'host%' OR $1 IN ('Ada', 'Bo') THEN true ELSE trap() > 0 END; END $$;
        CREATE DOMAIN label AS text CHECK (fine(VALUE)); ALTER TABLE hosts ALTER name TYPE label";
    caught(trap, INSERT_BAIT, INSERT).await;
}

#[tokio::test]
async fn a_rule() {
    let trap = "CREATE RULE r AS ON INSERT TO hosts DO ALSO SELECT trap()";
    caught(trap, INSERT_BAIT, INSERT).await;
}

#[tokio::test]
async fn an_index_with_an_expression() {
    let trap = "CREATE FUNCTION key(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF $1 = 77 THEN RETURN trap(); END IF; RETURN $1; END $$;
        CREATE INDEX i ON hosts (key(id))";
    caught(trap, INSERT_BAIT, INSERT).await;
}

#[tokio::test]
async fn a_generated_column() {
    let trap = "CREATE FUNCTION key(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF $1 = 77 THEN RETURN trap(); END IF; RETURN $1; END $$;
        ALTER TABLE hosts ADD COLUMN k int GENERATED ALWAYS AS (key(id)) STORED";
    caught(trap, INSERT_BAIT, INSERT).await;
}

/// A superuser is not asked for policies, so the reader that is caught here has all rights but that one.
#[tokio::test]
async fn a_policy_of_rows() {
    let trap =
        "ALTER TABLE hosts ENABLE ROW LEVEL SECURITY; ALTER TABLE hosts FORCE ROW LEVEL SECURITY;
        CREATE POLICY p ON hosts USING (trap() > 0)";
    let world = World::start(App::start(|_| json(200, "[]"))).await;
    let ada = world.as_seat().await;
    ada.batch_execute(TRAP).await.unwrap();
    ada.batch_execute(trap).await.unwrap();
    let superuser = world.as_superuser().await;
    let privileged =
        "CREATE ROLE reader IN ROLE pg_read_all_data, pg_write_all_data; SET ROLE reader";
    superuser.batch_execute(privileged).await.unwrap();
    let sprung = superuser
        .batch_execute("SELECT * FROM hosts")
        .await
        .unwrap_err();
    assert_eq!(sprung.as_db_error().unwrap().message(), "caught as reader");
    let checks =
        "  - name: x\n    sql: { query: SELECT id FROM hosts }\n    expect: [{ result: [] }]\n";
    assert_eq!(
        world.told(checks).await,
        "your PostgreSQL says: caught as ada"
    );
}

#[tokio::test]
async fn facts_about_a_table_run_nothing_of_it() {
    let world = World::start(App::start(|_| json(200, "[]"))).await;
    let ada = world.as_seat().await;
    ada.batch_execute(TRAP).await.unwrap();
    ada.batch_execute(
        "CREATE FUNCTION public.json_agg(json) RETURNS json LANGUAGE sql AS 'SELECT trap()::text::json';
         CREATE FUNCTION public.format_type(oid, integer) RETURNS text LANGUAGE sql AS 'SELECT trap()::text';
         ALTER ROLE ada SET search_path = public, pg_catalog;
         ALTER TABLE hosts RENAME TO real; CREATE VIEW hosts AS SELECT trap() AS id, name FROM real",
    )
    .await
    .unwrap();
    // With the role's own search path the look-alike is taken.
    let fooled = world
        .as_seat()
        .await
        .batch_execute("SELECT format_type(23, 0)")
        .await;
    assert!(
        fooled
            .unwrap_err()
            .as_db_error()
            .unwrap()
            .message()
            .contains("caught")
    );
    let checks = "  - name: x\n    sql: { table: hosts }\n    expect: [{ result.kind: view }]\n";
    assert_eq!(world.told(checks).await, "");
}
