//! Every command by its name. What is not here does not exist.

/// What a command is about, which decides who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Allowed before login.
    Connecting,
    Reading,
    Writing,
    Aggregation,
    Definition,
    Statistics,
    Explaining,
    Sessions,
    /// Users; only for `root`.
    Accounts,
}

/// Every command there is.
pub(super) const KNOWN: [(&str, Kind); 67] = [
    ("hello", Kind::Connecting),
    ("isMaster", Kind::Connecting),
    ("ismaster", Kind::Connecting),
    ("ping", Kind::Connecting),
    ("buildInfo", Kind::Connecting),
    ("buildinfo", Kind::Connecting),
    ("saslStart", Kind::Connecting),
    ("saslContinue", Kind::Connecting),
    ("logout", Kind::Connecting),
    ("connectionStatus", Kind::Connecting),
    ("whatsmyuri", Kind::Connecting),
    ("listCommands", Kind::Connecting),
    ("find", Kind::Reading),
    ("getMore", Kind::Reading),
    ("killCursors", Kind::Reading),
    ("count", Kind::Reading),
    ("distinct", Kind::Reading),
    ("listIndexes", Kind::Reading),
    ("listCollections", Kind::Reading),
    ("aggregate", Kind::Aggregation),
    ("bulkWrite", Kind::Writing),
    ("insert", Kind::Writing),
    ("update", Kind::Writing),
    ("delete", Kind::Writing),
    ("findAndModify", Kind::Writing),
    ("findandmodify", Kind::Writing),
    ("create", Kind::Definition),
    ("drop", Kind::Definition),
    ("dropDatabase", Kind::Definition),
    ("collMod", Kind::Definition),
    ("renameCollection", Kind::Definition),
    ("createIndexes", Kind::Definition),
    ("dropIndexes", Kind::Definition),
    ("deleteIndexes", Kind::Definition),
    ("collStats", Kind::Statistics),
    ("collstats", Kind::Statistics),
    ("dbStats", Kind::Statistics),
    ("dbstats", Kind::Statistics),
    ("validate", Kind::Statistics),
    ("listDatabases", Kind::Statistics),
    ("serverStatus", Kind::Statistics),
    ("hostInfo", Kind::Statistics),
    ("killOp", Kind::Statistics),
    ("getParameter", Kind::Statistics),
    ("getLog", Kind::Statistics),
    ("getCmdLineOpts", Kind::Statistics),
    ("profile", Kind::Statistics),
    ("startSession", Kind::Sessions),
    ("refreshSessions", Kind::Sessions),
    ("endSessions", Kind::Sessions),
    ("killSessions", Kind::Sessions),
    ("killAllSessions", Kind::Sessions),
    ("killAllSessionsByPattern", Kind::Sessions),
    ("commitTransaction", Kind::Sessions),
    ("abortTransaction", Kind::Sessions),
    ("mapReduce", Kind::Statistics),
    ("createSearchIndexes", Kind::Statistics),
    ("listSearchIndexes", Kind::Statistics),
    ("dropSearchIndex", Kind::Statistics),
    ("updateSearchIndex", Kind::Statistics),
    ("explain", Kind::Explaining),
    ("createUser", Kind::Accounts),
    ("updateUser", Kind::Accounts),
    ("dropUser", Kind::Accounts),
    ("grantRolesToUser", Kind::Accounts),
    ("revokeRolesFromUser", Kind::Accounts),
    ("usersInfo", Kind::Accounts),
];

/// Returns what a command is about, if there is such a command.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    let known = KNOWN.iter().find(|(known, _)| *known == name);
    known.map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_listed_once() {
        let mut names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KNOWN.len());
    }
}
