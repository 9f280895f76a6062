//! The template: the workshop's files with dependencies installed and front ends built, once, so
//! that a seat is an overlay over it. [`Templates::prepare`] gathers the content, and when no
//! version with the same key exists, installs and builds it inside the seats' own sandbox: the
//! lifecycle scripts of a workshop's packages are strangers. A version never changes and is
//! collected when no seat uses it.

mod gather;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arena_workshop::plan::{AppKind, AppPlan, Content, TemplatePlan};
use thiserror::Error;

pub use gather::GatherError;

use crate::nest::{ARGUMENTS, Bind, Home, INNER_EXECUTABLE, Limits, Run, Step, Steps, Work};
use crate::sandbox::{Sandbox, SandboxError, Slot};
use crate::seat::{HOME, SERVICES, Trees, common_binds, inner_environment, make_folder};
use gather::Gather;

/// Part of every key: raise it when what we make of the same content changes.
const FORMAT: &str = "1";

/// Where the outbound proxy is found inside.
const OUTBOUND: &str = "127.0.0.1:3128";

/// A registry that answers at all is done within this; npm itself would wait for hours.
const LIMIT_SECONDS: u64 = 20 * 60;

/// How often a step that uses the network is tried.
const TRIES: u32 = 3;

/// Lines of output shown when a step fails.
const LINES_SHOWN: usize = 40;

/// Build leftovers inside the home, deleted before it is sealed.
const SCRATCH: &str = ".arena-build";

/// Where the work order and git's settings are found inside.
const STEPS: &str = "/run/arena/steps.json";
const GIT_SETTINGS: &str = "/run/arena/gitconfig";

/// Where a repository on this machine is found inside.
const SOURCE: &str = "/opt/arena/source";

/// The prepared versions of an event.
pub struct Templates {
    sandbox: Sandbox,
    folder: PathBuf,
}

/// What preparing needs from outside.
#[derive(Debug, Clone, Default)]
pub struct Supplies {
    /// Node (and the editor, which is not needed).
    pub trees: Trees,
    /// A folder that holds `outbound.sock`; without it there is no network.
    pub services: Option<PathBuf>,
    /// The machine's npm settings that its packages need, such as `registry`.
    pub npm: BTreeMap<String, String>,
}

/// What happens while a template is prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A step begins.
    Step(&'a str),
    /// A program printed this.
    Line(&'a str),
    /// A version of the same content exists already.
    Reused,
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
    #[error("{step} failed:\n{output}\n\n{hint}")]
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

    /// Returns the key of the version for this plan, prepared now unless it exists. Blocks for as
    /// long as the workshop's own commands take.
    ///
    /// # Errors
    /// Content that cannot be had, or a command of the workshop that fails three times.
    pub fn prepare(
        &self,
        plan: &TemplatePlan,
        supplies: &Supplies,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<String, TemplateError> {
        let new = self.folder.join("new");
        self.remove(&new)?;
        self.make(&new, 0o700)?;
        let content = match &plan.content {
            Content::Folder(folder) => PathBuf::from(folder),
            Content::Repository { url, branch } => {
                self.clone_content(&new, url, branch.as_deref(), supplies, progress)?
            }
        };
        progress(Progress::Step("gathering the workshop's files"));
        let home = new.join("home");
        self.make(&home, 0o755)?;
        let key = gather(plan, &content, &home).map_err(TemplateError::Gather)?;
        let finished = self.folder.join(&key);
        if finished.exists() {
            progress(Progress::Reused);
        } else {
            self.build(&new, plan, supplies, progress)?;
            self.remove(&new.join("clone"))?;
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

    fn clone_content(
        &self,
        new: &Path,
        url: &str,
        branch: Option<&str>,
        supplies: &Supplies,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<PathBuf, TemplateError> {
        let local = Path::new(url.strip_prefix("file://").unwrap_or(url));
        let is_local = local.is_absolute();
        let folder = new.join("clone");
        self.make(&folder, 0o755)?;
        let mut command = [
            "git",
            "clone",
            "--quiet",
            "--no-recurse-submodules",
            "--depth",
            "1",
        ]
        .map(str::to_owned)
        .to_vec();
        if let Some(branch) = branch {
            command.extend(["--branch".to_owned(), branch.to_owned()]);
        }
        // `--` and a scheme: a URL cannot become an option or a program to run.
        let url = if is_local {
            format!("file://{SOURCE}")
        } else {
            url.to_owned()
        };
        command.extend(["--".to_owned(), url, format!("{HOME}/content")]);
        let environment = BTreeMap::from([(
            "GIT_ALLOW_PROTOCOL".to_owned(),
            "https:http:file".to_owned(),
        )]);
        let title = "fetching the workshop's repository".to_owned();
        let step = Step {
            title,
            command,
            environment,
            directory: HOME.to_owned(),
            tries: TRIES,
        };
        let source = is_local.then(|| Bind {
            from: local.to_owned(),
            to: SOURCE.to_owned(),
        });
        self.run(&folder, supplies, vec![step], source, progress)?;
        Ok(folder.join("content"))
    }

    /// Installs, builds and seals the gathered files in `new/home`.
    fn build(
        &self,
        new: &Path,
        plan: &TemplatePlan,
        supplies: &Supplies,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<(), TemplateError> {
        let home = new.join("home");
        let mut steps: Vec<Step> = plan
            .apps
            .iter()
            .flat_map(|app| app_steps(app, &plan.repository))
            .collect();
        steps.extend(history_steps(plan));
        self.run(&home, supplies, steps, None, progress)
    }

    /// Runs steps in a sandbox whose home is `home`, and takes the result back.
    fn run(
        &self,
        home: &Path,
        supplies: &Supplies,
        steps: Vec<Step>,
        source: Option<Bind>,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<(), TemplateError> {
        self.make(&home.join(SCRATCH), 0o755)?;
        if self.sandbox.has_own_users() {
            let work = Work::Own {
                folder: home.to_owned(),
            };
            self.sandbox
                .perform(Slot::PLATFORM, "cannot hand over the files", &work)
                .map_err(TemplateError::Sandbox)?;
        }
        let work = Work::Run(Box::new(self.sandboxed(home, supplies, steps, source)));
        let last = RefCell::new((String::new(), VecDeque::new()));
        let outcome = self.sandbox.perform_aloud(
            Slot::PLATFORM,
            "cannot prepare the template",
            &work,
            &|line| {
                let (step, lines) = &mut *last.borrow_mut();
                if let Some(title) = line.strip_prefix("# ") {
                    progress(Progress::Step(title));
                    title.clone_into(step);
                } else {
                    progress(Progress::Line(line));
                    if lines.len() == LINES_SHOWN {
                        lines.pop_front();
                    }
                    lines.push_back(line.to_owned());
                }
            },
        );
        let (step, lines) = last.into_inner();
        outcome.map_err(|error| failure(error, step, &lines, supplies.services.is_some()))?;
        self.remove(&home.join(SCRATCH))?;
        let work = Work::Seal {
            folder: home.to_owned(),
        };
        self.sandbox
            .perform(Slot::PLATFORM, "cannot seal the files", &work)
            .map_err(TemplateError::Sandbox)
    }

    fn sandboxed(
        &self,
        home: &Path,
        supplies: &Supplies,
        steps: Vec<Step>,
        source: Option<Bind>,
    ) -> Run {
        let mut read_only = common_binds(&self.sandbox, &supplies.trees);
        read_only.extend(source);
        if let Some(services) = &supplies.services {
            read_only.push(Bind {
                from: services.clone(),
                to: SERVICES.to_owned(),
            });
        }
        let outbound = supplies.services.as_ref().map(|_| OUTBOUND.to_owned());
        let steps = Work::Steps(Steps {
            outbound,
            limit_seconds: LIMIT_SECONDS,
            steps,
        });
        let steps = serde_json::to_string(&steps).expect("only strings, numbers and lists");
        let settings = "[safe]\n\tdirectory = *\n[user]\n\tname = Workshop\n\temail = workshop@arena.invalid\n\
                        [init]\n\tdefaultBranch = main\n[core]\n\thooksPath = /nonexistent\n";
        let mut command = vec![INNER_EXECUTABLE.to_owned()];
        command.extend(ARGUMENTS.map(str::to_owned));
        command.push(STEPS.to_owned());
        Run {
            own_user: self.sandbox.has_own_users(),
            parent: std::process::id(),
            lock: self.folder.join("lock"),
            home: Home::Folder(home.to_owned()),
            home_at: HOME.to_owned(),
            read_only,
            files: BTreeMap::from([
                (STEPS.to_owned(), steps),
                (GIT_SETTINGS.to_owned(), settings.to_owned()),
            ]),
            hosts: Vec::new(),
            host_name: "template".to_owned(),
            command,
            environment: environment(supplies),
            directory: HOME.to_owned(),
            limits: Limits {
                data_bytes: 4 << 30,
                ..Limits::default()
            },
        }
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
        environment.insert("BACKEND_URL".to_owned(), "/backend".to_owned());
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
    let script = format!(
        "git init --quiet && printf '%s\\n' \"$@\" >> .git/info/exclude && git add --all && \
         git commit --quiet --allow-empty --message 'The workshop as it starts' && rm -rf .git/hooks && git gc --quiet"
    );
    let mut command = ["/bin/sh", "-ec", &script, "sh"]
        .map(str::to_owned)
        .to_vec();
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

fn environment(supplies: &Supplies) -> BTreeMap<String, String> {
    let mut environment = inner_environment();
    let scratch = format!("{HOME}/{SCRATCH}");
    let mut set = |key: &str, value: &str| environment.insert(key.to_owned(), value.to_owned());
    set("HOME", &scratch);
    set("XDG_CACHE_HOME", &scratch);
    set("CI", "1");
    set("GIT_CONFIG_GLOBAL", GIT_SETTINGS);
    set("GIT_LFS_SKIP_SMUDGE", "1");
    set("GIT_TERMINAL_PROMPT", "0");
    set("NO_UPDATE_NOTIFIER", "1");
    for (key, value) in [
        ("cache", &*scratch),
        ("audit", "false"),
        ("fund", "false"),
        ("update_notifier", "false"),
        ("fetch_retries", "0"),
    ] {
        set(&format!("npm_config_{key}"), value);
    }
    for (key, value) in &supplies.npm {
        set(&format!("npm_config_{}", key.replace('-', "_")), value);
    }
    if supplies.services.is_some() {
        let proxy = format!("http://{OUTBOUND}");
        for key in [
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "npm_config_proxy",
            "npm_config_https_proxy",
        ] {
            set(key, &proxy);
        }
    }
    environment
}

fn failure(
    error: SandboxError,
    step: String,
    lines: &VecDeque<String>,
    has_network: bool,
) -> TemplateError {
    if step.is_empty() {
        return TemplateError::Sandbox(error);
    }
    let mut output: Vec<&str> = lines.iter().map(String::as_str).collect();
    let reason = error.to_string();
    output.push(&reason);
    let hint = if output.iter().any(|line| line.contains("ERESOLVE")) {
        "Two packages disagree about versions: commit a package-lock.json, or set the app's `prepare` in arena/workshop.yaml"
    } else if !has_network {
        "There was no way out to a package registry"
    } else if output.iter().any(|line| {
        ["ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "403", "502"]
            .iter()
            .any(|code| line.contains(code))
    }) {
        "Is the package registry reachable from this machine? `npm ping` tells; `seats.outbound` lists what is allowed"
    } else {
        "Run the same command in that folder of the workshop; it must work there first"
    };
    TemplateError::Step {
        step,
        output: output.join("\n"),
        hint: hint.to_owned(),
    }
}
