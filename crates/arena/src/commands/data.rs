//! `arena data`: data sets made, data files loaded, databases verified and
//! dumped. Everything it writes is first written beside and then renamed, so a
//! file with its own name is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use arena_data::{ArchiveWriter, Collection, embed};
use arena_database::{
    DataFile, DataSet, Held, MongodbAdmin, MongodbDatabase, ProvisionError, SetName,
};
use arena_workshop::DatabaseName;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::status::runtime;
use super::{print, print_json};
use crate::cli::{DataCommand, Form, Format, Generate, SetArguments};
use crate::failure::{Failure, Kind};
use crate::progress::Progress;

/// Differences that `verify` names.
const DIFFERENCES_SHOWN: usize = 10;

/// Does it.
pub(crate) fn run(command: &DataCommand) -> Result<(), Failure> {
    match command {
        DataCommand::Generate(arguments) => generate(arguments),
        DataCommand::Load {
            files,
            to,
            replace,
            format,
        } => {
            let work = async {
                let database = connect(&to.to, &to.database).await?;
                load(&database, files, *replace, *format).await
            };
            runtime()?.block_on(work)
        }
        DataCommand::Verify {
            set,
            within,
            format,
        } => {
            let work = async {
                let database = connect(&within.server, &within.database).await?;
                verify(&database, chosen(set)?, *format).await
            };
            runtime()?.block_on(work)
        }
        DataCommand::Dump { from, out, format } => {
            let work = async {
                let database = connect(&from.from, &from.database).await?;
                dump(&database, &from.database, out, *format).await
            };
            runtime()?.block_on(work)
        }
        DataCommand::Embed { text } => print(&format!("{}\n", serde_json::json!(embed(text)))),
    }
}

fn chosen(arguments: &SetArguments) -> Result<DataSet, Failure> {
    let name: SetName = arguments
        .set
        .parse()
        .map_err(|error: String| Failure::configuration(error))?;
    let set = DataSet::new(name).with_seed(arguments.seed);
    set.with_documents(arguments.documents)
        .ok_or_else(|| Failure::configuration("a data set has 1 to 1,000,000 documents"))
}

/// A file that was written.
#[derive(Debug, Serialize)]
struct Written {
    file: String,
    size_bytes: u64,
}

fn generate(arguments: &Generate) -> Result<(), Failure> {
    let set = chosen(&arguments.set)?;
    let out = &arguments.out;
    fs::create_dir_all(out)
        .with_context(|| format!("cannot make {}", out.display()))
        .map_err(Failure::environment)?;
    let progress = Progress::new();
    let line = progress.begin("data");
    let mut written = Vec::new();
    for form in &arguments.forms {
        let collection = set.collection();
        let name = match form {
            Form::Ndjson => format!("{collection}.ndjson"),
            Form::Canonical => format!("{collection}.canonical.ndjson"),
            Form::Sql => format!("{}.sql", set.name()),
            Form::Archive => format!("{}.archive", set.name()),
        };
        line.update(&format!("writing {name}"));
        written.push(write(out.join(name), |file| match form {
            Form::Ndjson => all(file, set.lines(false)),
            Form::Canonical => all(file, set.lines(true)),
            Form::Sql => all(file, set.sql()),
            Form::Archive => archive(file, &set),
        })?);
    }
    let truth =
        serde_json::to_vec_pretty(&set.truth()).context("cannot write the truth as JSON")?;
    let name = format!("{}.truth.json", set.name());
    written.push(write(out.join(name), |file| file.write_all(&truth))?);
    line.done(&format!("{set}"));
    told(arguments.format, &written)
}

fn told(format: Format, written: &[Written]) -> Result<(), Failure> {
    match format {
        Format::Json => print_json(&serde_json::json!({ "files": written })),
        Format::Text => {
            let lines = written
                .iter()
                .map(|each| format!("{}  {} bytes\n", each.file, each.size_bytes));
            print(&lines.collect::<String>())
        }
    }
}

fn all(file: &mut dyn Write, parts: impl Iterator<Item = String>) -> io::Result<()> {
    for part in parts {
        file.write_all(part.as_bytes())?;
    }
    Ok(())
}

fn archive(file: &mut dyn Write, set: &DataSet) -> io::Result<()> {
    let collection = Collection {
        name: set.collection().to_owned(),
        options: bson::Document::new(),
        indexes: Vec::new(),
    };
    let mut archive = ArchiveWriter::begin(file, set.name().as_str(), &[collection])?;
    let mut documents = archive.collection(set.collection())?;
    for document in set.collection_documents() {
        documents.write(&bson::RawDocumentBuf::try_from(&document).map_err(io::Error::other)?)?;
    }
    documents.end()
}

/// Writes a file under another name first.
fn write(
    path: PathBuf,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Written, Failure> {
    let mut beside = path.clone().into_os_string();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let attempt = || -> io::Result<u64> {
        let mut file = BufWriter::new(File::create(&beside)?);
        content(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        Ok(fs::metadata(&path)?.len())
    };
    let size_bytes = attempt().map_err(|error| {
        let _ = fs::remove_file(&beside);
        let error = anyhow::Error::new(error);
        Failure::environment(error.context(format!("cannot write {}", path.display())))
    })?;
    Ok(Written {
        file: path.display().to_string(),
        size_bytes,
    })
}

async fn connect(uri: &str, database: &str) -> Result<MongodbDatabase, Failure> {
    let name =
        DatabaseName::new(database).map_err(|error| Failure::new(Kind::Configuration, error))?;
    let server = MongodbAdmin {
        uri: uri.to_owned(),
    };
    MongodbDatabase::connect(&server, &name)
        .await
        .map_err(Failure::environment)
}

async fn load(
    database: &MongodbDatabase,
    files: &[PathBuf],
    replace: bool,
    format: Format,
) -> Result<(), Failure> {
    let held = database.held().await.map_err(Failure::environment)?;
    if !held.is_empty() && !replace {
        let names: Vec<&str> = held
            .iter()
            .map(|held| held.collection.name.as_str())
            .collect();
        let failure =
            Failure::configuration(format_args!("the database holds {}", names.join(", ")));
        return Err(failure.hint("name an empty database, or add --replace to drop what it holds"));
    }
    let files: Vec<DataFile> = files
        .iter()
        .map(|path| DataFile::on_disk(path.display().to_string(), path.clone()))
        .collect();
    if let Some(sql) = files.iter().find(|file| !file.is_for_mongodb()) {
        let failure = Failure::configuration(format_args!("{} is for PostgreSQL", sql.name));
        return Err(failure.hint("load it with: psql --file"));
    }
    let progress = Progress::new();
    let line = progress.begin("data");
    let loaded = database.load(&files, |loading| {
        line.tick(&format!(
            "{}: {} documents",
            loading.collection, loading.documents
        ));
    });
    loaded.await.map_err(|error| match error {
        ProvisionError::Data(_) => Failure::new(Kind::Configuration, error),
        error => Failure::environment(error),
    })?;
    let held = database.held().await.map_err(Failure::environment)?;
    line.done(&format!("collections and views: {}", held.len()));
    tell_held(&held, format)
}

fn tell_held(held: &[Held], format: Format) -> Result<(), Failure> {
    let facts = held.iter().map(|held| {
        serde_json::json!({
            "collection": held.collection.name,
            "documents": held.documents,
            "indexes": held.collection.indexes.len(),
            "view": held.collection.is_view(),
        })
    });
    match format {
        Format::Json => {
            print_json(&serde_json::json!({ "collections": facts.collect::<Vec<_>>() }))
        }
        Format::Text => {
            let lines = held.iter().map(|held| {
                format!(
                    "{}  {} documents, {} indexes{}\n",
                    held.collection.name,
                    held.documents,
                    held.collection.indexes.len(),
                    if held.collection.is_view() {
                        " (a view)"
                    } else {
                        ""
                    }
                )
            });
            print(&lines.collect::<String>())
        }
    }
}

async fn verify(database: &MongodbDatabase, set: DataSet, format: Format) -> Result<(), Failure> {
    let digest =
        |document: &bson::RawDocument| -> [u8; 32] { Sha256::digest(document.as_bytes()).into() };
    let mut expected: BTreeMap<String, [u8; 32]> = BTreeMap::new();
    for document in set.collection_documents() {
        let id = document.get_str("_id").unwrap_or_default().to_owned();
        let raw = bson::RawDocumentBuf::try_from(&document).context("a made document is BSON")?;
        expected.insert(id, digest(&raw));
    }
    let (mut differences, mut count) = (Vec::new(), 0_usize);
    let mut differ = |text: String| {
        count += 1;
        if differences.len() < DIFFERENCES_SHOWN {
            differences.push(text);
        }
    };
    let read = database.documents(set.collection(), |document| {
        let id = match document.get("_id") {
            Ok(Some(bson::RawBsonRef::String(id))) => id.to_owned(),
            other => format!("{other:?}"),
        };
        match expected.remove(&id) {
            None => differ(format!("_id {id} is not of the set")),
            Some(known) if known != digest(&document) => differ(format!("_id {id} was changed")),
            Some(_) => {}
        }
        Ok(())
    });
    read.await
        .map_err(Failure::environment)?
        .map_err(Failure::environment)?;
    for id in expected.keys() {
        differ(format!("_id {id} is missing"));
    }
    let is_same = count == 0;
    match format {
        Format::Json => print_json(&serde_json::json!({
            "set": set, "same": is_same, "differences": count, "first": differences,
        }))?,
        Format::Text if is_same => print(&format!("{} is {set}\n", set.collection()))?,
        Format::Text => print(&format!("{}\n", differences.join("\n")))?,
    }
    if is_same {
        return Ok(());
    }
    let error = anyhow::anyhow!(
        "{count} documents of {} are not as in {set}",
        set.collection()
    );
    Err(Failure::new(Kind::CheckFailed, error)
        .hint("--seed and --documents have to be those that the data were made with"))
}

async fn dump(
    database: &MongodbDatabase,
    name: &str,
    out: &Path,
    format: Format,
) -> Result<(), Failure> {
    let held = database.held().await.map_err(Failure::environment)?;
    let text = out.to_string_lossy();
    if text.ends_with(".archive") || text.ends_with(".archive.gz") {
        dump_archive(database, name, &held, out).await?;
    } else {
        dump_folder(database, &held, out).await?;
    }
    tell_held(&held, format)
}

async fn dump_archive(
    database: &MongodbDatabase,
    name: &str,
    held: &[Held],
    out: &Path,
) -> Result<(), Failure> {
    let beside = PathBuf::from(format!("{}.part", out.display()));
    let wrong = |error: io::Error| {
        let error = anyhow::Error::new(error);
        Failure::environment(error.context(format!("cannot write {}", out.display())))
    };
    let file = BufWriter::new(File::create(&beside).map_err(wrong)?);
    let level = if out.extension().is_some_and(|ending| ending == "gz") {
        Compression::default()
    } else {
        Compression::none()
    };
    let is_plain = level == Compression::none();
    let file: Box<dyn Write> = if is_plain {
        Box::new(file)
    } else {
        Box::new(GzEncoder::new(file, level))
    };
    let collections: Vec<Collection> = held.iter().map(|held| held.collection.clone()).collect();
    let mut archive = ArchiveWriter::begin(file, name, &collections).map_err(wrong)?;
    for collection in collections
        .iter()
        .filter(|collection| !collection.is_view())
    {
        let mut writer = archive.collection(&collection.name).map_err(wrong)?;
        let read = database.documents(&collection.name, |document| writer.write(&document));
        read.await.map_err(Failure::environment)?.map_err(wrong)?;
        writer.end().map_err(wrong)?;
    }
    let mut file = archive.into_inner();
    file.flush().map_err(wrong)?;
    drop(file);
    fs::rename(&beside, out).map_err(wrong)
}

async fn dump_folder(database: &MongodbDatabase, held: &[Held], out: &Path) -> Result<(), Failure> {
    let wrong = |error: io::Error| {
        let error = anyhow::Error::new(error);
        Failure::environment(error.context(format!("cannot write into {}", out.display())))
    };
    fs::create_dir_all(out).map_err(wrong)?;
    for Held { collection, .. } in held {
        let name = &collection.name;
        let declared = |ending: &str, value: bson::Bson| -> Result<(), Failure> {
            let text = serde_json::to_vec_pretty(&value.into_relaxed_extjson())
                .context("cannot write JSON")?;
            write(out.join(format!("{name}.{ending}.json")), |file| {
                file.write_all(&text)
            })
            .map(|_| ())
        };
        if collection.is_view() {
            declared("view", collection.options.clone().into())?;
            continue;
        }
        if !collection.indexes.is_empty() {
            let indexes: Vec<bson::Bson> =
                collection.indexes.iter().cloned().map(Into::into).collect();
            declared("indexes", indexes.into())?;
        }
        let validation: bson::Document = collection
            .options
            .clone()
            .into_iter()
            .filter(|(key, _)| key.starts_with("validat"))
            .collect();
        if !validation.is_empty() {
            declared("validator", validation.into())?;
        }
        let mut file =
            BufWriter::new(File::create(out.join(format!("{name}.ndjson"))).map_err(wrong)?);
        let read = database.documents(name, |document| {
            let document = bson::Document::try_from(document).map_err(io::Error::other)?;
            writeln!(
                file,
                "{}",
                bson::Bson::Document(document).into_canonical_extjson()
            )
        });
        read.await.map_err(Failure::environment)?.map_err(wrong)?;
        file.flush().map_err(wrong)?;
    }
    Ok(())
}
