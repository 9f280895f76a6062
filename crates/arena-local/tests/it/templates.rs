//! Templates: filtered, built in the sandbox, found again, refused.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use arena_local::template::{Progress, Supplies, TemplateError, Templates};
use arena_workshop::plan::{AppKind, AppPlan, Content, TemplatePlan};
use tempfile::TempDir;

use crate::world::{as_ordinary_user, sandbox};

struct Author {
    folder: TempDir,
    templates: Templates,
}

impl Author {
    fn new() -> Author {
        let folder = TempDir::new().unwrap();
        let workshop = folder.path().join("workshop");
        for (file, text) in [
            ("server/index.js", "start\n"),
            ("server/lab/one.js", "todo\n"),
            ("utils/answers/one.js", "answer\n"),
            ("arena/exercises/one.yaml", "secret\n"),
            (".git/config", "history\n"),
            ("server/node_modules/old/index.js", "old\n"),
        ] {
            fs::create_dir_all(workshop.join(file).parent().unwrap()).unwrap();
            fs::write(workshop.join(file), text).unwrap();
        }
        let templates = Templates::new(sandbox(folder.path()), &folder.path().join("state"));
        Author { folder, templates }
    }

    fn content(&self) -> PathBuf {
        self.folder.path().join("workshop")
    }

    fn plan(&self, script: &str) -> TemplatePlan {
        TemplatePlan {
            content: Content::Folder(self.content().display().to_string()),
            repository: "workshop".to_owned(),
            removed: vec!["arena".to_owned(), "utils/".to_owned()],
            overlays: BTreeMap::from([(
                "utils/answers/one.js".to_owned(),
                "server/lab/one.js".to_owned(),
            )]),
            node_version: "24".to_owned(),
            apps: vec![AppPlan {
                kind: AppKind::Frontend,
                folder: "server".to_owned(),
                prepare: vec![["/bin/sh", "-ec", script].map(str::to_owned).to_vec()],
                start: None,
                port: None,
                static_folders: vec!["out".to_owned()],
                env_file: BTreeMap::new(),
            }],
        }
    }

    fn prepare(&self, plan: &TemplatePlan) -> (Result<String, TemplateError>, bool) {
        let reused = RefCell::new(false);
        let outcome =
            self.templates
                .prepare(plan, &self.content(), &Supplies::default(), &|progress| {
                    *reused.borrow_mut() |= progress == Progress::Reused;
                });
        (outcome, reused.into_inner())
    }
}

const BUILD: &str = "mkdir -p out node_modules/dep && echo $BACKEND_URL > out/index.html && echo x > node_modules/dep/x && umask 077 && echo x > shut";

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_template_holds_the_built_workshop_without_answers_or_history() {
    as_ordinary_user(
        "templates::a_template_holds_the_built_workshop_without_answers_or_history",
        || {
            let author = Author::new();
            let (key, _) = author.prepare(&author.plan(BUILD));
            let home = author.templates.home(&key.unwrap()).join("workshop");
            assert_eq!(text(&home.join("server/out/index.html")), "/backend\n");
            assert_eq!(text(&home.join("server/lab/one.js")), "answer\n");
            for gone in [
                "arena",
                "utils",
                "server/node_modules/old",
                "../.arena-build",
            ] {
                assert!(!home.join(gone).exists(), "{gone}");
            }
            let git = |arguments: &[&str]| {
                let output = Command::new("git")
                    .args(["-c", "safe.directory=*", "-C"])
                    .arg(&home)
                    .args(arguments)
                    .output()
                    .unwrap();
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            };
            assert_eq!(git(&["log", "--format=%s"]), "The workshop as it starts");
            assert_eq!(
                git(&["ls-files"]),
                "server/index.js\nserver/lab/one.js\nserver/shut"
            );
        },
    );
}

#[test]
fn the_same_content_is_prepared_once() {
    as_ordinary_user("templates::the_same_content_is_prepared_once", || {
        let author = Author::new();
        let plan = author.plan(BUILD);
        let (first, reused) = author.prepare(&plan);
        assert!(!reused);
        let (second, reused) = author.prepare(&plan);
        assert!(reused);
        let first = first.unwrap();
        assert_eq!(first, second.unwrap());
        fs::write(
            author.folder.path().join("workshop/server/index.js"),
            "changed\n",
        )
        .unwrap();
        let (third, reused) = author.prepare(&plan);
        let third = third.unwrap();
        assert!(!reused && third != first);
        author
            .templates
            .collect(&BTreeSet::from([third.clone()]))
            .unwrap();
        assert!(author.templates.home(&third).exists() && !author.templates.home(&first).exists());
    });
}

#[test]
fn a_failing_installation_shows_its_output_and_leaves_no_version() {
    as_ordinary_user(
        "templates::a_failing_installation_shows_its_output_and_leaves_no_version",
        || {
            let author = Author::new();
            let (outcome, _) = author.prepare(&author.plan("echo this package is gone; exit 7"));
            let message = outcome.unwrap_err().to_string();
            assert!(
                message.contains("this package is gone") && message.contains("in server failed"),
                "{message}"
            );
            let (again, reused) = author.prepare(&author.plan(BUILD));
            assert!(again.is_ok() && !reused);
        },
    );
}

#[test]
fn a_link_out_of_the_workshop_is_refused() {
    as_ordinary_user("templates::a_link_out_of_the_workshop_is_refused", || {
        let author = Author::new();
        symlink(
            "/etc/passwd",
            author.folder.path().join("workshop/server/accounts"),
        )
        .unwrap();
        let error = author.prepare(&author.plan(BUILD)).0.unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            reason,
            "the link server/accounts leads out of the workshop, to /etc/passwd"
        );
    });
}

#[test]
fn an_installation_cannot_reach_the_host() {
    as_ordinary_user("templates::an_installation_cannot_reach_the_host", || {
        let author = Author::new();
        let precious = author.folder.path().join("precious");
        fs::write(&precious, "x").unwrap();
        let script = format!(
            "cat {0} || true; echo gone > {0} || true; env",
            precious.display()
        );
        let lines = RefCell::new(Vec::new());
        let outcome = author.templates.prepare(
            &author.plan(&script),
            &author.content(),
            &Supplies::default(),
            &|progress| {
                if let Progress::Line(line) = progress {
                    lines.borrow_mut().push(line.to_owned());
                }
            },
        );
        outcome.unwrap();
        assert_eq!(text(&precious), "x");
        assert!(
            lines.borrow().iter().all(|line| !line.contains("CARGO")),
            "the host's environment came along"
        );
    });
}
