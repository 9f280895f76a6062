//! The template: the workshop's files with dependencies installed and front ends built, once, so
//! that a seat is an overlay over it. [`Templates::prepare`] gathers the content, and when no
//! version with the same key exists, installs and builds it inside the seats' own sandbox: the
//! lifecycle scripts of a workshop's packages are strangers. A version never changes and is
//! collected when no seat uses it.

mod gather;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arena_workshop::plan::{AppKind, AppPlan, TemplatePlan};
use thiserror::Error;

pub use crate::workroom::{Progress, Supplies};
pub use gather::GatherError;

use crate::nest::{Step, Work};
use crate::sandbox::{Sandbox, SandboxError, Slot};
use crate::seat::{HOME, make_folder};
use crate::workroom::{StepFailure, Workroom};
pub(crate) use gather::Gather;

/// Part of every key: raise it when what we make of the same content changes.
const FORMAT: &str = "1";

/// How often a step that uses the network is tried.
const TRIES: u32 = 3;

/// The prepared versions of an event.
pub struct Templates {
    sandbox: Sandbox,
    folder: PathBuf,
}

/// A template could not be prepared.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The content cannot be copied.
    #[error("cannot gather the workshop's files")]
    Gather(#[source] GatherError),
    /// Our own folder.
    #[error("cannot write the template to {path}")]
    Files {
        /// Where.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The sandbox itself.
    #[error("cannot prepare the template")]
    Sandbox(#[source] SandboxError),
    /// The workshop's own commands.
    #[error("{step} failed:\n{output}")]
    Step {
        /// What was being done.
        step: String,
        /// The last lines that it printed.
        output: String,
        /// What to do.
        hint: String,
    },
}

impl Templates {
    /// Returns the versions under an event's state folder.
    pub fn new(sandbox: Sandbox, state: &Path) -> Templates {
        Templates {
            sandbox,
            folder: state.join("template"),
        }
    }

    /// Returns the key of the version for this plan of the files in `content`, prepared now unless
    /// it exists. Blocks for as long as the workshop's own commands take.
    ///
    /// # Errors
    /// Content that cannot be had, or a command of the workshop that fails three times.
    pub fn prepare(
        &self,
        plan: &TemplatePlan,
        content: &Path,
        supplies: &Supplies,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<String, TemplateError> {
        let new = self.folder.join("new");
        self.remove(&new)?;
        self.make(&new, 0o700)?;
        let making = Making {
            templates: self,
            supplies,
            progress,
        };
        progress(Progress::Step("gathering the workshop's files"));
        let home = new.join("home");
        self.make(&home, 0o755)?;
        let key = gather(plan, content, &home).map_err(TemplateError::Gather)?;
        let finished = self.folder.join(&key);
        if finished.exists() {
            progress(Progress::Reused);
        } else {
            making.build(&new, plan)?;
            let failed = |source| TemplateError::Files {
                path: finished.display().to_string(),
                source,
            };
            fs::rename(&new, &finished).map_err(failed)?;
        }
        self.remove(&new)?;
        Ok(key)
    }

    /// Returns the files of a version, as they are below `/home/workspace`.
    pub fn home(&self, key: &str) -> PathBuf {
        self.folder.join(key).join("home")
    }

    /// Deletes every version that is not in `used`.
    ///
    /// # Errors
    /// The disk refuses; call it again.
    pub fn collect(&self, used: &BTreeSet<String>) -> Result<(), TemplateError> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|name| used.contains(name))
            {
                self.remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn make(&self, folder: &Path, mode: u32) -> Result<(), TemplateError> {
        make_folder(folder, mode).map_err(|source| TemplateError::Files {
            path: folder.display().to_string(),
            source,
        })
    }

    fn remove(&self, folder: &Path) -> Result<(), TemplateError> {
        if fs::symlink_metadata(folder).is_ok_and(|found| !found.is_dir()) {
            let failed = |source| TemplateError::Files {
                path: folder.display().to_string(),
                source,
            };
            return fs::remove_file(folder).map_err(failed);
        }
        let work = Work::Remove {
            folder: folder.to_owned(),
        };
        self.sandbox
            .perform(Slot::PLATFORM, "cannot delete what was begun", &work)
            .map_err(TemplateError::Sandbox)
    }
}

/// A version in the making.
struct Making<'a> {
    templates: &'a Templates,
    supplies: &'a Supplies,
    progress: &'a dyn Fn(Progress<'_>),
}

impl Making<'_> {
    /// Installs, builds and seals the gathered files in `new/home`.
    fn build(&self, new: &Path, plan: &TemplatePlan) -> Result<(), TemplateError> {
        let home = new.join("home");
        let mut steps: Vec<Step> = plan
            .apps
            .iter()
            .flat_map(|app| app_steps(app, &plan.repository))
            .collect();
        steps.extend(history_steps(plan));
        self.run(&home, steps)
    }

    /// Runs steps in a sandbox whose home is `home`, and takes the result back.
    fn run(&self, home: &Path, steps: Vec<Step>) -> Result<(), TemplateError> {
        let room = Workroom {
            sandbox: &self.templates.sandbox,
            home,
            lock: &self.templates.folder.join("lock"),
            supplies: self.supplies,
        };
        let failed = |failure: StepFailure| match failure {
            StepFailure::Sandbox(error) => TemplateError::Sandbox(error),
            StepFailure::Step { step, output } => {
                let hint = hint(&output, self.supplies.services.is_some());
                TemplateError::Step {
                    step,
                    output,
                    hint: hint.to_owned(),
                }
            }
        };
        room.run(steps, None, self.progress).map_err(failed)?;
        let work = Work::Seal {
            folder: home.to_owned(),
        };
        self.templates
            .sandbox
            .perform(Slot::PLATFORM, "cannot seal the files", &work)
            .map_err(TemplateError::Sandbox)
    }
}

/// Copies the content and returns the key of everything that the template depends on.
fn gather(plan: &TemplatePlan, content: &Path, home: &Path) -> Result<String, GatherError> {
    let mut gather = Gather::new(&plan.removed);
    let work = home.join(&plan.repository);
    gather.tree(content, &work)?;
    for (from, to) in &plan.overlays {
        gather.overlay(content, from, &work, to)?;
    }
    gather.fact("format", FORMAT);
    gather.fact("node", &plan.node_version);
    gather.fact("repository", &plan.repository);
    gather.fact(
        "apps",
        &serde_json::to_string(&plan.apps).expect("only strings, numbers and lists"),
    );
    Ok(gather.key())
}

fn app_steps(app: &AppPlan, repository: &str) -> Vec<Step> {
    let directory = format!("{HOME}/{repository}/{}", app.folder)
        .trim_end_matches('/')
        .to_owned();
    let mut environment = BTreeMap::new();
    if app.kind == AppKind::Frontend {
        // Front ends bake their addresses in; one that needs a secret's value cannot be shared.
        let fixed = app
            .env_file
            .iter()
            .filter(|(_, value)| !value.contains("${"));
        environment.extend(fixed.map(|(key, value)| (key.clone(), value.clone())));
        for (name, value) in [("BACKEND_URL", "/backend"), ("WORKSHOP_USER", "/app")] {
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    let step = |command: &Vec<String>| {
        let folder = if app.folder.is_empty() {
            repository
        } else {
            &app.folder
        };
        let uses_network = command
            .iter()
            .any(|word| matches!(word.as_str(), "ci" | "install" | "i"));
        Step {
            title: format!("{} in {folder}", command.join(" ")),
            command: command.clone(),
            environment: environment.clone(),
            directory: directory.clone(),
            tries: if uses_network { TRIES } else { 1 },
        }
    };
    app.prepare.iter().map(step).collect()
}

/// A fresh repository with one commit: `git diff` works, and no answer is in the log.
fn history_steps(plan: &TemplatePlan) -> Vec<Step> {
    if !Path::new("/usr/bin/git").exists() {
        return Vec::new();
    }
    let mut ignored = vec!["node_modules/".to_owned(), ".env".to_owned()];
    for app in &plan.apps {
        ignored.extend(
            app.static_folders
                .iter()
                .map(|folder| format!("/{}/{folder}/", app.folder).replace("//", "/")),
        );
    }
    let script = "git init --quiet && printf '%s\\n' \"$@\" >> .git/info/exclude && git add --all && \
                  git commit --quiet --allow-empty --message 'The workshop as it starts' && \
                  rm -rf .git/hooks && git gc --quiet";
    let mut command = ["/bin/sh", "-ec", script, "sh"].map(str::to_owned).to_vec();
    command.extend(ignored);
    let directory = format!("{HOME}/{}", plan.repository);
    let title = "making the start of the participants' history".to_owned();
    vec![Step {
        title,
        command,
        environment: BTreeMap::new(),
        directory,
        tries: 1,
    }]
}

/// What to do about a failed step, from what it printed.
fn hint(output: &str, has_network: bool) -> &'static str {
    if output.contains("ERESOLVE") {
        "two packages disagree about versions: commit a package-lock.json, or set the app's `prepare` in arena/workshop.yaml"
    } else if !has_network {
        "there was no way out to a package registry"
    } else if ["ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "403", "502"]
        .iter()
        .any(|code| output.contains(code))
    {
        "is the package registry reachable from this machine? `npm ping` tells; `arena.seats.outbound` lists what is allowed"
    } else {
        "run the same command in that folder of the workshop; it must work there first"
    }
}
