//! What the workshop's databases start from: the author's files, dumps of
//! PostgreSQL as the SQL text that they stand for, and the data set that the plan
//! names.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use arena_database::{DataFile, DataSet, SetName};
use arena_local::engine::EngineTree;
use arena_local::postgres::PostgresPrograms;
use arena_workshop::DataSetName;
use arena_workshop::plan::DataSetPlan;

use crate::failure::Failure;
use crate::platform::Prepared;

/// What begins a dump in `pg_dump`'s custom format.
const DUMP_MAGIC: &[u8] = b"PGDMP";

/// Returns what the plan says that seats start from, in the plan's order.
///
/// # Errors
/// When a file cannot be read, or nothing here reads it.
pub(super) fn data_files(prepared: &Prepared) -> Result<Vec<DataFile>, Failure> {
    let databases = &prepared.plan.databases;
    let mongodb = databases.mongodb.iter().flat_map(|mongodb| &mongodb.data);
    let postgres = databases
        .postgres
        .iter()
        .flat_map(|postgres| &postgres.data);
    let mut files: Vec<DataFile> = mongodb
        .map(|name| DataFile::on_disk(name, prepared.folder.path.join(name)))
        .collect();
    for name in postgres {
        let path = prepared.folder.path.join(name);
        files.push(if is_sql_dump(name, &path)? {
            dump_as_sql(name, &path, prepared.tools.engine.clone())?
        } else {
            DataFile::on_disk(name, path)
        });
    }
    files.extend(databases.set.map(|set| DataFile::set(data_set(set))));
    Ok(files)
}

/// The data set that the plan names.
fn data_set(plan: DataSetPlan) -> DataSet {
    let name = match plan.name {
        DataSetName::Listings => SetName::Listings,
    };
    let set = DataSet::new(name).with_seed(plan.seed);
    // The workshop's schema allows no number that the set does not.
    let sized = plan
        .documents
        .and_then(|documents| set.with_documents(documents));
    sized.unwrap_or(set)
}

fn is_sql_dump(name: &str, path: &Path) -> Result<bool, Failure> {
    Ok(name.ends_with(".dump") || begins_as_dump(path)?)
}

fn begins_as_dump(path: &Path) -> Result<bool, Failure> {
    let mut begin = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(5).read_to_end(&mut begin))
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(Failure::environment)?;
    Ok(begin == DUMP_MAGIC)
}

/// Reads a dump of PostgreSQL as the SQL text that it stands for.
fn dump_as_sql(name: &str, path: &Path, tree: Option<EngineTree>) -> Result<DataFile, Failure> {
    let sql = if begins_as_dump(path)? {
        let programs = tree
            .map(PostgresPrograms::Tree)
            .or_else(PostgresPrograms::installed)
            .context("the database engine is not installed, and it reads this dump")
            .map_err(|error| {
                Failure::environment(error)
                    .hint("run: arena tools install, or make the dump with: pg_dump --format=plain")
            })?;
        programs
            .dump_as_sql(path)
            .with_context(|| format!("cannot read the dump {name}"))
            .map_err(Failure::environment)?
    } else {
        // A plain dump with another ending.
        fs::read(path)
            .with_context(|| format!("cannot read {}", path.display()))
            .map_err(Failure::environment)?
    };
    Ok(DataFile::new(format!("{name}.sql"), sql))
}
