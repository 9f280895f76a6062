//! Users that clients make: only for `root`, kept in the engine's PostgreSQL as
//! verifiers, never as passwords, so that they outlive a restart.

use bson::{Bson, RawBsonRef, RawDocument, doc};

use super::{Answer, Call, connecting, raw};
use crate::error::CommandError;
use crate::scram::ScramVerifier;
use crate::server::Server;
use crate::users::{Role, RoleName, User};

const USER_NAME_BYTES_MAX: usize = 128;
const PASSWORD_BYTES_MAX: usize = 1_024;

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS arena_front.users (\
    name text PRIMARY KEY, verifier text NOT NULL, roles text[] NOT NULL)";
const SELECT: &str = "SELECT name, verifier, roles FROM arena_front.users";
const UPSERT: &str = "INSERT INTO arena_front.users (name, verifier, roles) VALUES ($1, $2, $3) \
    ON CONFLICT (name) DO UPDATE SET verifier = excluded.verifier, roles = excluded.roles";
const DELETE: &str = "DELETE FROM arena_front.users WHERE name = $1";

/// Adds the users that clients made earlier, except those the caller has given.
pub(crate) async fn load_users(server: &Server) -> Result<(), CommandError> {
    let budget = server.own_budget();
    server.backend.rows(budget, CREATE_TABLE, &[]).await?;
    for row in server.backend.rows(budget, SELECT, &[]).await? {
        let (name, verifier, roles): (String, String, Vec<String>) =
            (row.get(0), row.get(1), row.get(2));
        let Ok(verifier) = ScramVerifier::parse(&verifier) else {
            tracing::error!(
                user.name = name,
                "a kept database user has an unreadable verifier and cannot log in"
            );
            continue;
        };
        let roles = roles.iter().filter_map(|role| Role::parse(role)).collect();
        if server.users().get(&name).is_none() {
            server.users().set(name, User { verifier, roles });
        }
    }
    Ok(())
}

pub(super) async fn run(call: &Call<'_>) -> Answer {
    if call.name == "usersInfo" {
        return users_info(call);
    }
    call.allow_root()?;
    match call.name {
        "createUser" => create(call).await,
        "updateUser" => update(call).await,
        "dropUser" => drop_user(call).await,
        "grantRolesToUser" => change_roles(call, Change::Grant).await,
        "revokeRolesFromUser" => change_roles(call, Change::Revoke).await,
        other => Err(CommandError::command_not_found(other)),
    }
}

async fn create(call: &Call<'_>) -> Answer {
    let name = user_name(call)?;
    if call.server.users().get(name).is_some() {
        let message = format!("User \"{name}@{}\" already exists", call.database);
        return Err(CommandError::new(51003, "Location51003", message));
    }
    let roles =
        roles_in(call)?.ok_or_else(|| CommandError::bad_value("createUser needs 'roles'"))?;
    let verifier = verifier_in(call)
        .await?
        .ok_or_else(|| CommandError::bad_value("createUser needs 'pwd'"))?;
    keep(call, name, User { verifier, roles }).await
}

async fn update(call: &Call<'_>) -> Answer {
    let name = user_name(call)?;
    let known = call
        .server
        .users()
        .get(name)
        .ok_or_else(|| not_found(call, name))?;
    let roles = roles_in(call)?.unwrap_or_else(|| known.roles.clone());
    let verifier = verifier_in(call)
        .await?
        .unwrap_or_else(|| known.verifier.clone());
    keep(call, name, User { verifier, roles }).await
}

async fn drop_user(call: &Call<'_>) -> Answer {
    let name = user_name(call)?;
    if call.server.users().get(name).is_none() {
        return Err(not_found(call, name));
    }
    call.server
        .backend
        .rows(call.budget(), DELETE, &[&name])
        .await?;
    call.server.users().remove(name);
    Ok(raw(&doc! { "ok": 1.0 }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Grant,
    Revoke,
}

async fn change_roles(call: &Call<'_>, change: Change) -> Answer {
    let name = user_name(call)?;
    let known = call
        .server
        .users()
        .get(name)
        .ok_or_else(|| not_found(call, name))?;
    let named = roles_in(call)?.unwrap_or_default();
    let mut roles = known.roles.clone();
    roles.retain(|role| !named.contains(role));
    if change == Change::Grant {
        roles.extend(named);
    }
    keep(
        call,
        name,
        User {
            verifier: known.verifier.clone(),
            roles,
        },
    )
    .await
}

/// On disk first, then in use.
async fn keep(call: &Call<'_>, name: &str, user: User) -> Answer {
    let roles: Vec<String> = user.roles.iter().map(Role::to_string).collect();
    call.server
        .backend
        .rows(
            call.budget(),
            UPSERT,
            &[&name, &user.verifier.to_text(), &roles],
        )
        .await?;
    call.server.users().set(name, user);
    Ok(raw(&doc! { "ok": 1.0 }))
}

fn user_name<'a>(call: &Call<'a>) -> Result<&'a str, CommandError> {
    let name = call
        .body()
        .get_str(call.name)
        .ok()
        .filter(|name| (1..=USER_NAME_BYTES_MAX).contains(&name.len()));
    name.filter(|name| !name.contains('\0'))
        .ok_or_else(|| CommandError::bad_value("a user's name must be a short text"))
}

fn not_found(call: &Call<'_>, name: &str) -> CommandError {
    CommandError::new(
        11,
        "UserNotFound",
        format!("User '{name}@{}' not found", call.database),
    )
}

async fn verifier_in(call: &Call<'_>) -> Result<Option<ScramVerifier>, CommandError> {
    let Ok(password) = call.body().get_str("pwd") else {
        return Ok(None);
    };
    if !(1..=PASSWORD_BYTES_MAX).contains(&password.len()) || !ScramVerifier::is_password(password)
    {
        return Err(CommandError::bad_value(
            "'pwd' must be 1 to 1024 bytes of text without control characters",
        ));
    }
    let password = password.to_owned();
    let made = tokio::task::spawn_blocking(move || ScramVerifier::from_password(&password)).await;
    made.map(Some).map_err(|_| CommandError::internal())
}

/// `["read", { role: "readWrite", db: "x" }]`; a bare name means the command's database.
fn roles_in(call: &Call<'_>) -> Result<Option<Vec<Role>>, CommandError> {
    let Ok(listed) = call.body().get_array("roles") else {
        return Ok(None);
    };
    let mut roles = Vec::new();
    for entry in listed {
        let (name, database) = match entry? {
            RawBsonRef::String(name) => (name, call.database),
            RawBsonRef::Document(role) => (role.get_str("role")?, role.get_str("db")?),
            _ => return Err(CommandError::bad_value("a role is a text or { role, db }")),
        };
        let role = RoleName::parse(name).and_then(|role| Role::new(role, database));
        roles.push(role.ok_or_else(|| {
            CommandError::new(
                31,
                "RoleNotFound",
                format!("Could not find role: {name}@{database}"),
            )
        })?);
    }
    Ok(Some(roles))
}

/// Everybody sees oneself; `root` sees all.
fn users_info(call: &Call<'_>) -> Answer {
    let wanted = names_asked_for(call.body())?;
    if !call.user.is_root()
        && !matches!(&wanted, Some(names) if names.iter().all(|name| name == call.user_name))
    {
        return Err(call.refused(call.database));
    }
    let users = call.server.users().all().into_iter();
    let shown = users.filter(|(name, _)| wanted.as_ref().is_none_or(|names| names.contains(name)));
    let described = shown.map(|(name, user)| {
        Bson::from(doc! {
            "_id": format!("admin.{name}"), "user": name, "db": "admin",
            "roles": connecting::roles_of(&user), "mechanisms": ["SCRAM-SHA-256"],
        })
    });
    Ok(raw(
        &doc! { "users": described.collect::<Vec<_>>(), "ok": 1.0 },
    ))
}

/// Nothing means all.
fn names_asked_for(body: &RawDocument) -> Result<Option<Vec<String>>, CommandError> {
    let name_of = |value: RawBsonRef<'_>| match value {
        RawBsonRef::String(name) => Ok(name.to_owned()),
        RawBsonRef::Document(user) => Ok(user.get_str("user")?.to_owned()),
        _ => Err(CommandError::bad_value("a user is a text or { user, db }")),
    };
    match body.get("usersInfo")? {
        Some(RawBsonRef::Array(names)) => {
            let mut wanted = Vec::new();
            for name in names {
                wanted.push(name_of(name?)?);
            }
            Ok(Some(wanted))
        }
        Some(value @ (RawBsonRef::String(_) | RawBsonRef::Document(_))) => {
            match value.as_document() {
                Some(document) if document.get("forAllDBs").is_ok_and(|field| field.is_some()) => {
                    Ok(None)
                }
                _ => Ok(Some(vec![name_of(value)?])),
            }
        }
        _ => Ok(None),
    }
}
