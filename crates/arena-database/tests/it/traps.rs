//! Traps in a seat's database for whoever looks into it with more rights: the provisioner and its
//! guard must never walk into one. The superuser of the test does, at the end: the traps are real.

use arena_database::{Before, Room};

use crate::world::{World, number, until};

const SQL: &str =
    "CREATE TABLE hosts AS SELECT n AS id, 'host ' || n AS name FROM generate_series(1, 500) n;";

/// Gives the seat everything, if whoever runs it may.
const TRAP: &str = "CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
       IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE ada SUPERUSER; END IF; RETURN 1; END $$;";

/// Look-alikes of what the platform's statements call and compare with, and relations that run code.
const SET: &[&str] = &[
    "CREATE FUNCTION format(text, text) RETURNS text LANGUAGE sql AS 'SELECT public.trap()::text'",
    "CREATE FUNCTION format(text, regclass) RETURNS text LANGUAGE sql AS 'SELECT public.trap()::text'",
    "CREATE FUNCTION format(text, \"char\", text) RETURNS text LANGUAGE sql AS 'SELECT public.trap()::text'",
    "CREATE FUNCTION count(oid) RETURNS bigint LANGUAGE sql AS 'SELECT public.trap()::bigint'",
    "CREATE FUNCTION same(name, text) RETURNS bool LANGUAGE sql AS 'SELECT public.trap() > 0'",
    "CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = same)",
    "CREATE FUNCTION same(\"char\", text) RETURNS bool LANGUAGE sql AS 'SELECT public.trap() > 0'",
    "CREATE OPERATOR public.= (LEFTARG = \"char\", RIGHTARG = text, FUNCTION = same)",
    "CREATE FUNCTION same(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT public.trap() > 0'",
    "CREATE OPERATOR public.<> (LEFTARG = oid, RIGHTARG = oid, FUNCTION = same)",
    "CREATE TABLE pg_roles (oid oid, rolname name)",
    "CREATE VIEW pg_class AS SELECT public.trap() AS oid",
    "CREATE TABLE \"x'; ALTER ROLE ada SUPERUSER; --\" (a int)",
    "CREATE VIEW \"%I %s \"\"v\" AS SELECT public.trap() AS a",
    "CREATE MATERIALIZED VIEW m AS SELECT public.trap() AS a",
    "CREATE SEQUENCE s",
    "CREATE TYPE t AS (a int)",
    "CREATE DOMAIN d AS int CHECK (public.trap() > 0)",
    "CREATE TABLE checked (a d, b int DEFAULT public.trap(), c int CHECK (public.trap() > 0))",
    "INSERT INTO checked (a, c) VALUES (1, 1)",
    "CREATE FUNCTION pure(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN public.trap(); END $$",
    "CREATE INDEX i ON hosts (public.pure(id))",
    "CREATE RULE r AS ON INSERT TO checked DO ALSO SELECT public.trap()",
    "CREATE FUNCTION each_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.trap(); RETURN NEW; END $$",
    "ALTER TABLE hosts ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY p ON hosts USING (public.trap() > 0)",
    "CREATE STATISTICS st ON (public.pure(id)) FROM hosts",
    "ALTER TABLE hosts RENAME TO real",
    "CREATE VIEW hosts AS SELECT public.trap() AS id, name FROM real",
    "ALTER ROLE ada SET search_path = public, pg_catalog",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
];

#[tokio::test]
async fn the_platform_walks_into_no_trap_of_a_seat() {
    let mut world = World::start(SQL).await;
    let ada = world.as_seat(&world.ada).await;
    ada.batch_execute(TRAP).await.unwrap();
    for trap in SET {
        if let Err(error) = ada.batch_execute(trap).await {
            panic!("{trap}: {error:?}");
        }
    }
    let is_super = "SELECT count(*) FROM pg_catalog.pg_authid WHERE rolname = 'ada' AND rolsuper";
    let platform = world.as_superuser("postgres").await;
    world.provisioner.create_seat(&world.ada).await.unwrap();
    world.guard();
    let room = async |world: &World| {
        let usage = world.provisioner.postgres_usage();
        usage.get(&world.ada.name).map(|usage| usage.room)
    };
    let size = number(&platform, "SELECT pg_database_size('ada')").await;
    world.provisioner.set_postgres_limits(|limits| {
        let max = u64::try_from(size).unwrap() / 10 * 9;
        limits.size_bytes_of.insert(world.ada.name.clone(), max);
    });
    until("its writes are taken", async || {
        room(&world).await == Some(Room::Full)
    })
    .await;
    world
        .provisioner
        .set_postgres_limits(|limits| limits.size_bytes_of.clear());
    until("they are given back", async || {
        room(&world).await == Some(Room::Free)
    })
    .await;
    world
        .provisioner
        .restore_seat(&world.ada, Before::Keep)
        .await
        .unwrap();
    world.provisioner.bring_back_seat(&world.ada).await.unwrap();
    world.provisioner.create_seat(&world.ada).await.unwrap();
    assert_eq!(
        number(&platform, is_super).await,
        0,
        "the platform was caught"
    );
    assert!(world.is_guarded());
    // It is all there still, and catches a superuser who reads.
    let caught = world.as_superuser("ada").await;
    caught.batch_execute("SELECT id FROM hosts").await.unwrap();
    assert_eq!(number(&platform, is_super).await, 1, "the traps are real");
}
