//! The content of a workshop that lies in a repository, for `check` and `plan`:
//! fetched into a folder that goes with the command. Started as root it is
//! fetched by the user that `up` would run as.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use arena_local::repository::{Fetched, Repositories, Repository};
use arena_workshop::Problems;

use super::inputs::Inputs;
use super::print_json;
use super::tools::{RUN_AS, sandbox};
use crate::content::{self, Store};
use crate::failure::{Failure, Kind};
use crate::host::{self, Host};
use crate::progress::Progress;

/// What became of the content.
pub(crate) enum Content {
    /// It is all there: it lies in the folder itself, or was fetched to where the guard is.
    Whole(Box<Inputs>, Option<Temporary>),
    /// It has mistakes.
    Mistaken(Problems),
    /// It was not fetched, for this reason.
    Missing(Box<Inputs>, Failure),
}

/// Files that go when this is dropped.
pub(crate) struct Temporary {
    folder: PathBuf,
    repositories: Option<Repositories>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Files of seats' users go in their namespaces; root may delete anything.
        if let Some(repositories) = &self.repositories {
            let _ = repositories.remove();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Fetches what lies in a repository.
///
/// # Errors
/// When something of our own breaks.
pub(crate) fn content(inputs: Inputs) -> Result<Content, Failure> {
    let Some(repository) = inputs.repository.clone() else {
        return Ok(Content::Whole(Box::new(inputs), None));
    };
    let (fetched, temporary) = match fetch(&repository) {
        Ok(fetched) => fetched,
        Err(failure) => return Ok(Content::Missing(Box::new(inputs), failure)),
    };
    Ok(match inputs.with_content(&fetched)? {
        Ok(inputs) => Content::Whole(Box::new(inputs), Some(temporary)),
        Err(problems) => Content::Mistaken(problems),
    })
}

fn fetch(repository: &Repository) -> Result<(Fetched, Temporary), Failure> {
    let host = Host::here()?;
    let folder = host
        .state()
        .join(format!(".content-{}", std::process::id()));
    if host::is_root() {
        if !host::has_user(RUN_AS)? {
            let error = anyhow::anyhow!(
                "{} is fetched by the first `up`, which makes the user `{RUN_AS}` for it",
                repository.address()
            );
            return Err(Failure::environment(error));
        }
        let temporary = Temporary {
            folder: folder.clone(),
            repositories: None,
        };
        return Ok((fetch_as_user(repository, &folder)?, temporary));
    }
    host.make()?;
    let temporary = Temporary {
        folder: folder.clone(),
        repositories: Some(Repositories::new(sandbox(&host)?, &folder)),
    };
    Ok((fetch_here(&host, repository, &folder)?, temporary))
}

fn fetch_here(host: &Host, repository: &Repository, folder: &Path) -> Result<Fetched, Failure> {
    let store = Store {
        sandbox: sandbox(host)?,
        folder,
        services: &host
            .paths()
            .runtime
            .join(format!("fetch-{}", std::process::id())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let line = Progress::new().begin("content");
    let fetched = runtime.block_on(content::fetch(store, repository, &line));
    match &fetched {
        Ok(fetched) => line.done(&format!(
            "{}, version {}",
            repository.address(),
            content::short(&fetched.version)
        )),
        Err(_) => line.failed(&repository.address()),
    }
    fetched
}

fn fetch_as_user(repository: &Repository, folder: &Path) -> Result<Fetched, Failure> {
    let mut arguments: Vec<OsString> = vec!["serve".into(), "content".into()];
    arguments.extend(["--into".into(), folder.into()]);
    if let Some(branch) = &repository.branch {
        arguments.extend(["--branch".into(), branch.into()]);
    }
    arguments.extend(["--".into(), OsString::from(&repository.url)]);
    let output = host::user_command(RUN_AS, &arguments)?
        .command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run this executable as {RUN_AS}"))?;
    if !output.status.success() {
        return Err(Failure::said(Kind::from_code(output.status.code())));
    }
    Ok(serde_json::from_slice(&output.stdout).context("cannot read what was fetched")?)
}

/// The role that root starts as another user.
pub(crate) fn serve(url: &str, branch: Option<String>, into: &Path) -> Result<(), Failure> {
    let host = Host::here()?;
    host.make()?;
    let repository = Repository {
        url: url.to_owned(),
        branch,
    };
    print_json(&fetch_here(&host, &repository, into)?)
}
