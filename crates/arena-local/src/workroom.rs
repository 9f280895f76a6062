//! A sandbox in which something is prepared for all seats, once: a template, or the editor. Like a
//! seat's, but its program is a list of steps, there are no secrets in it, and what it leaves
//! behind is taken back by the platform.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::nest::{ARGUMENTS, Bind, Home, INNER_EXECUTABLE, Limits, Run, Step, Steps, Work};
use crate::sandbox::{Sandbox, SandboxError, Slot};
use crate::seat::{HOME, SERVICES, Trees, common_binds, inner_environment, make_folder};

/// Where the outbound proxy is found inside.
const OUTBOUND: &str = "127.0.0.1:3128";

/// A registry that answers at all is done within this; npm itself would wait for hours.
const LIMIT_SECONDS: u64 = 20 * 60;

/// Lines of output shown when a step fails.
const LINES_SHOWN: usize = 40;

/// How the sandbox announces another try of a step.
const ONCE_MORE: &str = "once more";

/// npm names a file that is gone with the sandbox.
const NPM_LOG: &str = "A complete log of this run can be found in";

/// Caches of package clients inside the home, deleted afterwards.
const SCRATCH: &str = ".arena-build";

/// Where the work order and git's settings are found inside.
const STEPS: &str = "/run/arena/steps.json";
const GIT_SETTINGS: &str = "/run/arena/gitconfig";

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

/// What happens while something is prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A step begins.
    Step(&'a str),
    /// A program printed this.
    Line(&'a str),
    /// A version of the same content exists already.
    Reused,
}

/// Steps that did not all work.
pub(crate) enum StepFailure {
    /// The sandbox itself did not.
    Sandbox(SandboxError),
    /// One of them: its title, and the last lines that it printed with the reason.
    Step { step: String, output: String },
}

/// A place to run steps in.
pub(crate) struct Workroom<'a> {
    pub(crate) sandbox: &'a Sandbox,
    /// A folder of ours; inside it is [`HOME`].
    pub(crate) home: &'a Path,
    /// Locked while the steps run.
    pub(crate) lock: &'a Path,
    pub(crate) supplies: &'a Supplies,
}

impl Workroom<'_> {
    /// Hands the home over to the sandbox's user and runs the steps. The caller takes it back.
    pub(crate) fn run(
        &self,
        steps: Vec<Step>,
        source: Option<Bind>,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<(), StepFailure> {
        let scratch = self.home.join(SCRATCH);
        let made = make_folder(&scratch, 0o755);
        made.map_err(|error| {
            StepFailure::Sandbox(SandboxError::new("cannot make a folder for caches", &error))
        })?;
        if let Some(services) = self.services() {
            // The steps come from another user than ours.
            let socket = services.join("outbound.sock");
            let opened = make_folder(services, 0o755)
                .and_then(|()| fs::set_permissions(socket, fs::Permissions::from_mode(0o666)));
            opened.map_err(|error| {
                StepFailure::Sandbox(SandboxError::new("cannot open the way out", &error))
            })?;
        }
        let perform = |what: &str, work: &Work| {
            self.sandbox
                .perform(Slot::PLATFORM, what, work)
                .map_err(StepFailure::Sandbox)
        };
        if self.sandbox.has_own_users() {
            perform(
                "cannot hand over the files",
                &Work::Own {
                    folder: self.home.to_owned(),
                },
            )?;
        }
        let work = Work::Run(Box::new(self.sandboxed(steps, source)));
        let last = RefCell::new((String::new(), VecDeque::new()));
        let outcome =
            self.sandbox
                .perform_aloud(Slot::PLATFORM, "the steps ended", &work, &|line| {
                    let (step, lines) = &mut *last.borrow_mut();
                    if let Some(title) = line.strip_prefix("# ") {
                        progress(Progress::Step(title));
                        // Another try of the same step: only the last one's output counts.
                        if title.starts_with(ONCE_MORE) {
                            lines.clear();
                        } else {
                            title.clone_into(step);
                        }
                        return;
                    }
                    progress(Progress::Line(line));
                    if line.contains(NPM_LOG) {
                        return;
                    }
                    if lines.len() == LINES_SHOWN {
                        lines.pop_front();
                    }
                    lines.push_back(line.to_owned());
                });
        let (step, mut lines) = last.into_inner();
        if let Err(error) = outcome {
            if step.is_empty() {
                return Err(StepFailure::Sandbox(error));
            }
            lines.push_back(error.reason().to_owned());
            return Err(StepFailure::Step {
                step,
                output: Vec::from(lines).join("\n"),
            });
        }
        perform(
            "cannot delete the caches",
            &Work::Remove { folder: scratch },
        )
    }

    /// What is not separated has the machine's own network.
    fn services(&self) -> Option<&Path> {
        let services = self.supplies.services.as_deref();
        services.filter(|_| !self.sandbox.is_open())
    }

    fn sandboxed(&self, steps: Vec<Step>, source: Option<Bind>) -> Run {
        let mut read_only = common_binds(self.sandbox, &self.supplies.trees);
        read_only.extend(source);
        if let Some(services) = self.services() {
            read_only.push(Bind {
                from: services.to_owned(),
                to: SERVICES.to_owned(),
            });
        }
        let outbound = self.services().map(|_| OUTBOUND.to_owned());
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
            open: (self.sandbox.is_open()).then(|| self.lock.with_extension("private")),
            lock: self.lock.to_owned(),
            home: Home::Folder(self.home.to_owned()),
            home_at: HOME.to_owned(),
            read_only,
            files: BTreeMap::from([
                (STEPS.to_owned(), steps),
                (GIT_SETTINGS.to_owned(), settings.to_owned()),
            ]),
            hosts_file: None,
            host_name: "template".to_owned(),
            command,
            environment: self.environment(),
            directory: HOME.to_owned(),
            limits: Limits {
                data_bytes: 4 << 30,
                ..Limits::default()
            },
        }
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = inner_environment();
        let scratch = format!("{HOME}/{SCRATCH}");
        let mut set = |key: &str, value: &str| environment.insert(key.to_owned(), value.to_owned());
        for (key, value) in [
            ("HOME", &*scratch),
            ("XDG_CACHE_HOME", &scratch),
            ("CI", "1"),
            ("GIT_CONFIG_GLOBAL", GIT_SETTINGS),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("NO_UPDATE_NOTIFIER", "1"),
            ("npm_config_cache", &scratch),
            ("npm_config_audit", "false"),
            ("npm_config_fund", "false"),
            ("npm_config_update_notifier", "false"),
            ("npm_config_fetch_retries", "0"),
        ] {
            set(key, value);
        }
        for (key, value) in &self.supplies.npm {
            set(&format!("npm_config_{}", key.replace('-', "_")), value);
        }
        if self.services().is_some() {
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
}
