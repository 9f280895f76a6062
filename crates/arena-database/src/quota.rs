//! What happens to a seat whose database in PostgreSQL grows beyond its quota. A seat owns its tables
//! and could lift every setting of its own, so nothing less holds than taking them: their ownership
//! goes to the template's role, which nobody can be, and the seat keeps the rights to read, delete and
//! empty. One that still grows (a trap that writes with the owner's rights) is shut altogether.
//!
//! Where a seat stands is a word at the end of its database's comment, so that it outlives us.

use serde::Serialize;

use crate::ProvisionError;
use crate::guard::Watched;
use crate::postgres::{Link, Postgres, failed};

/// A database with more relations is shut at once: to move them takes a lock each, and all seats share
/// those.
const RELATIONS_MAX: i64 = 400;

/// Whether a seat has room in its database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Room {
    /// It may write.
    #[default]
    Free,
    /// Over its quota: it may read, delete and empty tables.
    Full,
    /// Far over its quota: it cannot log in. A restore or a larger quota opens it.
    Shut,
}

impl Room {
    /// Returns what stands at the end of the mark.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Free => "",
            Self::Full => " full",
            Self::Shut => " shut",
        }
    }
}

/// Reads the comment of a seat's database.
pub(crate) fn room(mark: &str) -> Room {
    let word = |room: &Room| mark.ends_with(room.word());
    [Room::Full, Room::Shut]
        .into_iter()
        .find(word)
        .unwrap_or_default()
}

/// What a seat's room should be. Given back a little below the quota, so that it does not flicker.
fn due(now: Room, size: u64, max: u64) -> Room {
    match now {
        Room::Shut if size > max => Room::Shut,
        _ if size > max.saturating_add(max / 2) => Room::Shut,
        Room::Full | Room::Free if size > max => Room::Full,
        Room::Full if size > max - max / 20 => Room::Full,
        _ => Room::Free,
    }
}

/// Takes or gives what a database of this size asks for; returns the seat's room from now on.
pub(crate) async fn adjust(
    server: &Postgres,
    link: &Link,
    seat: &Watched,
    size: u64,
    max: u64,
) -> Result<Room, ProvisionError> {
    let now = room(&seat.mark);
    let due = due(now, size, max);
    if due == now {
        return Ok(now);
    }
    let name = seat.name.as_str();
    let changed = change(server, link, seat, due).await;
    match &changed {
        Ok(room) => tracing::warn!(
            seat.database = name,
            size_bytes = size,
            "the database {name} is now {room:?}: its quota is {max} bytes"
        ),
        Err(_) if now != Room::Shut => {
            // As it was; the next look tries again.
            let open = format!("ALTER ROLE \"{name}\" LOGIN");
            link.run(&open, || format!("open the database {name}"))
                .await?;
        }
        Err(_) => {}
    }
    changed
}

/// Changes a seat's room while nobody is in there.
async fn change(
    server: &Postgres,
    link: &Link,
    seat: &Watched,
    mut due: Room,
) -> Result<Room, ProvisionError> {
    let (name, now) = (seat.name.as_str(), room(&seat.mark));
    let what = || format!("bound the database {name}");
    link.run(&format!("ALTER ROLE \"{name}\" NOLOGIN"), what)
        .await?;
    end_sessions(link, name).await?;
    if due == Room::Full && relations(server, name).await? > RELATIONS_MAX {
        due = Room::Shut;
    }
    let statements = match (now, due) {
        (Room::Free, Room::Full) => server.take_writes(name),
        (Room::Full | Room::Shut, Room::Free) => server.give_writes(name),
        _ => String::new(),
    };
    let inside = server.admin_link(name).await?;
    inside.run(&statements, what).await?;
    inside.close().await;
    let temporary = match due {
        Room::Free => format!("GRANT TEMPORARY ON DATABASE \"{name}\" TO \"{name}\";"),
        Room::Full | Room::Shut => {
            format!("REVOKE TEMPORARY ON DATABASE \"{name}\" FROM \"{name}\";")
        }
    };
    let login = if due == Room::Shut {
        "NOLOGIN"
    } else {
        "LOGIN"
    };
    let base = seat.mark.trim_end_matches(now.word());
    let end = format!(
        "{temporary} ALTER ROLE \"{name}\" {login}; COMMENT ON DATABASE \"{name}\" IS '{base}{}'",
        due.word()
    );
    link.run(&end, what).await?;
    Ok(due)
}

/// Ends a seat's sessions, so that nothing waits for them.
async fn end_sessions(link: &Link, name: &str) -> Result<(), ProvisionError> {
    let query = "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity WHERE usename = $1";
    link.client
        .query(query, &[&name])
        .await
        .map_err(failed(format!("end the sessions of {name}")))?;
    Ok(())
}

async fn relations(server: &Postgres, name: &str) -> Result<i64, ProvisionError> {
    let inside = server.admin_link(name).await?;
    let query = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE r.rolname = $1";
    let row = inside
        .client
        .query_one(query, &[&name])
        .await
        .map_err(failed(format!("count the relations of {name}")))?;
    inside.close().await;
    Ok(row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_taken_above_the_quota_and_given_back_below() {
        let max = 1000;
        assert_eq!(due(Room::Free, 1000, max), Room::Free);
        assert_eq!(due(Room::Free, 1001, max), Room::Full);
        assert_eq!(due(Room::Free, 9000, max), Room::Shut);
        assert_eq!(due(Room::Full, 970, max), Room::Full);
        assert_eq!(due(Room::Full, 940, max), Room::Free);
        assert_eq!(due(Room::Full, 1501, max), Room::Shut);
        assert_eq!(due(Room::Shut, 1001, max), Room::Shut);
        assert_eq!(due(Room::Shut, 1000, max), Room::Free);
        for room in [Room::Free, Room::Full, Room::Shut] {
            assert_eq!(
                super::room(&format!("arena seat 1 of t{}", room.word())),
                room
            );
        }
    }
}
