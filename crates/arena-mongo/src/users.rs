//! Who may use the built-in database and what they may do where. The list is
//! shared with the caller and may change while the server runs; a removed user's
//! open connections lose all rights at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::scram::ScramVerifier;

/// A kind of right on one database. Those that span databases are held on `admin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleName {
    /// Reads documents and statistics.
    Read,
    /// Reads, writes, makes and drops collections and indexes.
    ReadWrite,
    /// Makes, changes and drops collections and indexes, without reading documents.
    DbAdmin,
    /// Everything in one database.
    DbOwner,
    /// Reads every database; only on `admin`.
    ReadAnyDatabase,
    /// Everything everywhere, users included; only on `admin`.
    Root,
}

impl RoleName {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Read, "read"),
        (Self::ReadWrite, "readWrite"),
        (Self::DbAdmin, "dbAdmin"),
        (Self::DbOwner, "dbOwner"),
        (Self::ReadAnyDatabase, "readAnyDatabase"),
        (Self::Root, "root"),
    ];

    /// Returns the role of this MongoDB name, if we have it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, other)| *other == name)
            .map(|(role, _)| *role)
    }

    /// Returns MongoDB's name of the role.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(role, _)| *role == self)
            .map_or("", |(_, name)| name)
    }

    fn spans_databases(self) -> bool {
        matches!(self, Self::ReadAnyDatabase | Self::Root)
    }
}

/// A role on a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    name: RoleName,
    database: String,
}

impl Role {
    /// Returns the role, unless it spans databases and is asked for on another than `admin`.
    pub fn new(name: RoleName, database: impl Into<String>) -> Option<Self> {
        let database = database.into();
        (!name.spans_databases() || database == "admin").then_some(Self { name, database })
    }

    /// Returns what it allows.
    pub fn name(&self) -> RoleName {
        self.name
    }

    /// Returns where.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Reads `role@database`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, database) = text.split_once('@')?;
        Self::new(RoleName::parse(name)?, database)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name.as_str(), self.database)
    }
}

/// What a command does to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Reads documents.
    Read,
    /// Reads names and statistics, not documents.
    Look,
    /// Changes documents.
    Write,
    /// Makes and drops collections and indexes.
    Define,
    /// Changes what only its administrator may: validators, the whole database.
    Administer,
}

/// A user: what is known of the password, and the roles.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Checks the password.
    pub verifier: ScramVerifier,
    /// What the user may do; without roles: nothing.
    pub roles: Vec<Role>,
}

impl User {
    pub(crate) fn may(&self, action: Action, database: &str) -> bool {
        self.roles.iter().any(|role| match role.name {
            RoleName::Root => true,
            RoleName::ReadAnyDatabase => matches!(action, Action::Read | Action::Look),
            _ if role.database != database => false,
            RoleName::Read => matches!(action, Action::Read | Action::Look),
            RoleName::ReadWrite => action != Action::Administer,
            RoleName::DbAdmin => {
                matches!(action, Action::Look | Action::Define | Action::Administer)
            }
            RoleName::DbOwner => true,
        })
    }

    pub(crate) fn is_root(&self) -> bool {
        self.roles.iter().any(|role| role.name == RoleName::Root)
    }
}

/// All users by name; clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Users {
    by_name: Arc<RwLock<BTreeMap<String, Arc<User>>>>,
}

impl Users {
    /// Adds a user or replaces the one of this name.
    pub fn set(&self, name: impl Into<String>, user: User) {
        self.by_name
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.into(), Arc::new(user));
    }

    /// Removes a user; returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.by_name
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name)
            .is_some()
    }

    /// Returns the user of this name.
    pub fn get(&self, name: &str) -> Option<Arc<User>> {
        self.by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    pub(crate) fn all(&self) -> Vec<(String, Arc<User>)> {
        let users = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        users
            .iter()
            .map(|(name, user)| (name.clone(), Arc::clone(user)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(roles: &[&str]) -> User {
        let roles = roles
            .iter()
            .map(|role| Role::parse(role).unwrap())
            .collect();
        User {
            verifier: ScramVerifier::of_nobody(&[0; 32], ""),
            roles,
        }
    }

    #[test]
    fn nothing_is_allowed_without_a_role_on_that_database() {
        let ada = user(&["readWrite@ada", "read@shared"]);
        assert!(ada.may(Action::Write, "ada") && ada.may(Action::Read, "shared"));
        assert!(!ada.may(Action::Write, "shared") && !ada.may(Action::Administer, "ada"));
        for action in [
            Action::Read,
            Action::Look,
            Action::Write,
            Action::Define,
            Action::Administer,
        ] {
            assert!(!ada.may(action, "bob") && !ada.may(action, "admin"));
        }
    }

    #[test]
    fn roles_over_all_databases_exist_only_on_admin() {
        assert!(Role::parse("root@ada").is_none());
        assert!(Role::parse("readAnyDatabase@ada").is_none());
        assert!(Role::parse("root@admin").is_some());
        assert!(Role::parse("clusterAdmin@admin").is_none());
    }

    #[test]
    fn an_administrator_of_a_database_does_not_read_its_documents() {
        let admin = user(&["dbAdmin@ada"]);
        assert!(!admin.may(Action::Read, "ada") && admin.may(Action::Administer, "ada"));
    }
}
