//! What seats may do in PostgreSQL, as statements: their roles, what is taken from everybody, and how
//! a seat comes to own what is in its database. Every name is checked by its type, so quoting is plain.
//!
//! A server with an administrator who is no superuser (a hosted one) grants less: what only a
//! superuser may set is a list of its own here, and left out there.

use crate::scram::scram_verifier;
use crate::{POSTGRES_CONNECTIONS, SeatDatabase};

/// Connections to a seat's database: those of the seat, and a few of whoever verifies it.
const DATABASE_CONNECTIONS: u32 = POSTGRES_CONNECTIONS + 2;

/// Nobody but the administrator has business in the databases that every server has.
pub(super) const SERVER: &str =
    "REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC";

/// One connection's advisory locks could exhaust the memory that all share; messages into the log
/// of changes fill the disk without counting as anybody's data.
pub(super) const FUNCTIONS: &str = "
    DO $$ DECLARE f regprocedure; BEGIN
      FOR f IN SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace
               AND (p.proname LIKE 'pg\\_%advisory%' OR p.proname IN ('pg_logical_emit_message', 'pg_export_snapshot',
                    'lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put', 'lowrite', 'lo_truncate', 'lo_truncate64')) LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
      END LOOP;
    END $$";

/// Quotes a name; the types of names hold none that needs more.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// A seat's role and what it may use.
pub(super) struct Role<'a> {
    pub(super) seat: &'a SeatDatabase,
    /// Whether there is such a role already.
    pub(super) exists: bool,
    /// Whether the administrator is a superuser, and may say so.
    pub(super) by_superuser: bool,
    pub(super) salt: [u8; 16],
}

impl Role<'_> {
    /// Makes the role, or puts back what the participant changed about it. No clear password: the
    /// statement may end up in a log.
    pub(super) fn statements(&self) -> String {
        let name = quoted(self.seat.name.as_str());
        let verb = if self.exists { "ALTER" } else { "CREATE" };
        let verifier = scram_verifier(&self.seat.password, self.salt);
        let more = if self.by_superuser {
            "NOSUPERUSER NOREPLICATION NOBYPASSRLS NOCREATEDB "
        } else {
            ""
        };
        format!(
            "{verb} ROLE {name} LOGIN PASSWORD '{verifier}' {more}NOCREATEROLE NOINHERIT CONNECTION LIMIT {POSTGRES_CONNECTIONS};
             ALTER ROLE {name} RESET ALL;
             ALTER ROLE {name} SET statement_timeout = '30s';
             ALTER ROLE {name} SET idle_in_transaction_session_timeout = '60s'"
        )
    }

    /// The limit that the role itself cannot lift.
    pub(super) fn temporary_files(&self) -> String {
        let name = quoted(self.seat.name.as_str());
        format!("ALTER ROLE {name} SET temp_file_limit = '200MB'")
    }
}

/// Opens a database to its seat and to nobody else.
pub(super) fn open_to(database: &str, role: &str) -> String {
    let (database, role) = (quoted(database), quoted(role));
    format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}; \
         ALTER DATABASE {database} CONNECTION LIMIT {DATABASE_CONNECTIONS}"
    )
}

/// Gives what the template's owner owns, in the database that this runs in, to the seat.
pub(super) fn hand_over(template: &str, seat: &str) -> String {
    let (template, seat) = (quoted(template), quoted(seat));
    format!(
        "REASSIGN OWNED BY {template} TO {seat}; GRANT USAGE, CREATE ON SCHEMA public TO {seat}"
    )
}

/// Takes a seat's rights to write: its relations become the template owner's, and the seat may read
/// them, empty them and delete from them. Functions stay the seat's own, so that none of them runs
/// with the new owner's rights.
pub(super) fn take_writes(template: &str, seat: &str) -> String {
    let rights = format!(
        "EXECUTE pg_catalog.format('GRANT SELECT ON %s TO {seat}', r.name);
         IF r.kind IN ('r', 'p') THEN
           EXECUTE pg_catalog.format('GRANT TRUNCATE ON %s TO {seat}', r.name);
           IF NOT r.has_rules THEN EXECUTE pg_catalog.format('GRANT DELETE ON %s TO {seat}', r.name); END IF;
         END IF;",
        seat = quoted(seat)
    );
    let relations = move_relations(seat, template, &rights);
    let schemas = each_schema(
        seat,
        &format!("REVOKE CREATE ON SCHEMA %s FROM {}", quoted(seat)),
    );
    block(&format!("{relations} {schemas}"))
}

/// Gives back what [`take_writes`] took. The schemas first: who may not create in one cannot be made
/// the owner of what is in it.
pub(super) fn give_writes(template: &str, seat: &str) -> String {
    let schemas = each_schema(
        seat,
        &format!("GRANT CREATE ON SCHEMA %s TO {}", quoted(seat)),
    );
    let relations = move_relations(template, seat, "");
    block(&format!("{schemas} {relations}"))
}

/// Asks catalogs only, whatever the database's own search path, and is done as a whole.
fn block(statements: &str) -> String {
    format!("SET search_path = pg_catalog; DO $$ DECLARE r record; BEGIN {statements} END $$")
}

/// Does something to the schemas that a seat may create in; `%s` is the name.
fn each_schema(seat: &str, statement: &str) -> String {
    format!(
        "FOR r IN SELECT pg_catalog.format('%I', n.nspname) AS name FROM pg_catalog.pg_namespace n
             WHERE n.nspname = 'public' OR n.nspowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = '{seat}') LOOP
           EXECUTE pg_catalog.format('{statement}', r.name);
         END LOOP;"
    )
}

/// Changes the owner of all relations from one role to another, and then runs `each`. A change of
/// owner calls nothing that a seat wrote.
fn move_relations(from: &str, to: &str, each: &str) -> String {
    format!(
        "FOR r IN SELECT c.oid::regclass::text AS name, c.relkind AS kind, c.relhasrules AS has_rules FROM pg_catalog.pg_class c
             WHERE c.relowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = '{from}')
               AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't'
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                               AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND c.relkind = 'S') LOOP
           EXECUTE pg_catalog.format('ALTER %s %s OWNER TO {to}', CASE r.kind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
             WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, r.name);
           {each}
         END LOOP;",
        to = quoted(to)
    )
}
