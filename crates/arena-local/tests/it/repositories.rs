//! Repositories of a workshop: fetched in the sandbox, kept by version, refused with what to do.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arena_local::outbound::{self, Allowed, Network, Rule};
use arena_local::repository::{Fetched, Repositories, Repository, RepositoryError};
use arena_local::template::{Progress, Supplies};
use arena_workshop::SeatId;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::world::{as_ordinary_user, sandbox};

/// An author with a repository, and a machine that fetches it.
struct Author {
    folder: TempDir,
    repositories: Repositories,
}

impl Author {
    fn new() -> Author {
        let folder = TempDir::new().unwrap();
        let repositories = Repositories::new(sandbox(folder.path()), &folder.path().join("kept"));
        let author = Author {
            folder,
            repositories,
        };
        fs::create_dir(author.path("origin")).unwrap();
        author.git(&["init", "--quiet", "--initial-branch=main"]);
        author.commit("server/index.js", "first\n");
        author
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
            .args(["-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(self.path("origin"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, file: &str, text: &str) {
        let path = self.path("origin").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "work"]);
    }

    fn repository(&self, branch: Option<&str>) -> Repository {
        Repository {
            url: self.path("origin").display().to_string(),
            branch: branch.map(str::to_owned),
        }
    }

    /// Fetches, and says whether files were fetched, not only asked for.
    fn fetch(&self, repository: &Repository) -> (Result<Fetched, RepositoryError>, bool) {
        self.fetch_through(repository, &Supplies::default())
    }

    fn fetch_through(
        &self,
        repository: &Repository,
        supplies: &Supplies,
    ) -> (Result<Fetched, RepositoryError>, bool) {
        let is_cloned = RefCell::new(false);
        let outcome = self.repositories.fetch(repository, supplies, &|said| {
            if let Progress::Step(step) = said {
                *is_cloned.borrow_mut() |= step.starts_with("fetching");
            }
        });
        (outcome, is_cloned.into_inner())
    }
}

fn text(fetched: &Fetched, file: &str) -> String {
    fs::read_to_string(fetched.folder.join(file)).unwrap()
}

fn hint_of(outcome: Result<Fetched, RepositoryError>) -> (String, String) {
    let error = outcome.unwrap_err();
    (error.to_string(), error.hint().unwrap_or_default())
}

#[test]
fn a_repository_is_fetched_once_a_version() {
    as_ordinary_user(
        "repositories::a_repository_is_fetched_once_a_version",
        || {
            let author = Author::new();
            let repository = author.repository(None);
            let (first, is_cloned) = author.fetch(&repository);
            let first = first.unwrap();
            assert!(is_cloned);
            assert_eq!(text(&first, "server/index.js"), "first\n");
            assert_eq!(first.version, author.git(&["rev-parse", "HEAD"]));
            assert!(
                !first.folder.join(".git").exists(),
                "the history came along"
            );
            let (again, is_cloned) = author.fetch(&repository);
            assert_eq!((again.unwrap(), is_cloned), (first.clone(), false));

            author.commit("server/index.js", "second\n");
            let (second, is_cloned) = author.fetch(&repository);
            let second = second.unwrap();
            assert!(is_cloned && second.version != first.version);
            assert_eq!(text(&second, "server/index.js"), "second\n");
            assert!(!first.folder.exists(), "the old version was kept");
        },
    );
}

#[test]
fn a_branch_and_a_tag_are_what_they_say() {
    as_ordinary_user("repositories::a_branch_and_a_tag_are_what_they_say", || {
        let author = Author::new();
        author.git(&["tag", "--annotate", "v1", "--message", "the first"]);
        author.git(&["checkout", "--quiet", "-b", "next"]);
        author.commit("server/index.js", "next\n");
        for (branch, content) in [("next", "next\n"), ("v1", "first\n"), ("main", "first\n")] {
            let (fetched, is_cloned) = author.fetch(&author.repository(Some(branch)));
            assert_eq!(
                text(&fetched.unwrap(), "server/index.js"),
                content,
                "{branch}"
            );
            assert!(is_cloned);
        }
    });
}

#[test]
fn what_is_wrong_with_a_repository_is_said_with_what_to_do() {
    as_ordinary_user(
        "repositories::what_is_wrong_with_a_repository_is_said_with_what_to_do",
        || {
            let author = Author::new();
            let (_, hint) = hint_of(author.fetch(&author.repository(Some("mian"))).0);
            assert!(hint.contains("no branch or tag `mian`"), "{hint}");

            let elsewhere = |url: String| Repository { url, branch: None };
            let nothing = elsewhere(author.path("nothing").display().to_string());
            let (message, hint) = hint_of(author.fetch(&nothing).0);
            assert!(
                message.contains("cannot read") && hint.contains("read"),
                "{message}: {hint}"
            );

            fs::create_dir(author.path("plain")).unwrap();
            let plain = elsewhere(author.path("plain").display().to_string());
            let (message, hint) = hint_of(author.fetch(&plain).0);
            assert!(
                message.contains("does not appear to be a git repository")
                    && hint.contains("address is right"),
                "{message}: {hint}"
            );

            let key = elsewhere("git@git.example:team/workshop.git".to_owned());
            let (message, hint) = hint_of(author.fetch(&key).0);
            assert!(
                message.contains("https") && hint.contains("https"),
                "{message}: {hint}"
            );
        },
    );
}

#[test]
fn a_repository_that_is_gone_leaves_the_version_that_is_kept() {
    as_ordinary_user(
        "repositories::a_repository_that_is_gone_leaves_the_version_that_is_kept",
        || {
            let author = Author::new();
            let repository = author.repository(None);
            let fetched = author.fetch(&repository).0.unwrap();
            fs::rename(author.path("origin/.git"), author.path("gone")).unwrap();
            let (again, is_cloned) = author.fetch(&repository);
            let again = again.unwrap();
            assert!(!is_cloned && again.folder == fetched.folder);
            let reason = again
                .stale
                .clone()
                .expect("it says that it is not the newest");
            assert!(
                reason.contains("does not appear to be a git repository"),
                "{reason}"
            );
            assert_eq!(text(&again, "server/index.js"), "first\n");
            // Another branch is not what is kept.
            assert!(author.fetch(&author.repository(Some("main"))).0.is_err());
        },
    );
}

#[test]
fn nothing_beside_a_repositorys_own_files_is_fetched() {
    as_ordinary_user(
        "repositories::nothing_beside_a_repositorys_own_files_is_fetched",
        || {
            let author = Author::new();
            let other = author.path("other");
            assert!(
                Command::new("cp")
                    .arg("-r")
                    .arg(author.path("origin"))
                    .arg(&other)
                    .status()
                    .unwrap()
                    .success()
            );
            author.git(&[
                "submodule",
                "--quiet",
                "add",
                &other.display().to_string(),
                "module",
            ]);
            let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
            author.commit(
                ".gitattributes",
                "*.bin filter=lfs diff=lfs merge=lfs -text\n",
            );
            author.commit("large.bin", pointer);
            let fetched = author.fetch(&author.repository(None)).0.unwrap();
            assert!(author.path("origin/module/server/index.js").exists());
            assert!(!fetched.folder.join("module/server").exists());
            assert_eq!(text(&fetched, "large.bin"), pointer);
        },
    );
}

#[test]
fn a_repository_on_the_network_is_fetched_through_the_way_out() {
    as_ordinary_user(
        "repositories::a_repository_on_the_network_is_fetched_through_the_way_out",
        || {
            let author = Author::new();
            let server = Server::start(author.folder.path());
            let network = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let shutdown = CancellationToken::new();
            let services = author.path("services");
            fs::create_dir(&services).unwrap();
            let way = {
                let _inside = network.enter();
                let listener =
                    tokio::net::UnixListener::bind(services.join("outbound.sock")).unwrap();
                network.spawn(outbound::serve(server.way(), listener, shutdown.clone()))
            };
            let supplies = Supplies {
                services: Some(services),
                ..Supplies::default()
            };
            let at = |path: &str| Repository {
                url: format!("http://git.example/{path}"),
                branch: Some("main".to_owned()),
            };
            let fetched = author.fetch_through(&at("origin"), &supplies).0.unwrap();
            assert_eq!(text(&fetched, "server/index.js"), "first\n");

            let (message, hint) = hint_of(author.fetch_through(&at("private"), &supplies).0);
            assert!(hint.contains("TOKEN"), "{message}: {hint}");
            let (message, hint) = hint_of(author.fetch_through(&at("missing"), &supplies).0);
            assert!(hint.contains("address is right"), "{message}: {hint}");
            let unlisted = Repository {
                url: "https://ada:hunter2@unlisted.example/workshop".to_owned(),
                branch: None,
            };
            let (message, hint) = hint_of(author.fetch_through(&unlisted, &supplies).0);
            assert!(hint.contains("reachable"), "{message}: {hint}");
            assert!(
                !message.contains("hunter2") && !hint.contains("hunter2"),
                "{message}: {hint}"
            );
            shutdown.cancel();
            network.block_on(way).unwrap().unwrap();
        },
    );
}

/// A git server of the network, named `git.example` by the way out.
struct Server {
    port: u16,
}

impl Server {
    fn start(root: &Path) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let root = root.to_owned();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(&root, stream);
            }
        });
        Server { port }
    }

    fn way(&self) -> outbound::Settings {
        let port = self.port;
        let rule = Rule::registry(&"http://git.example".parse().unwrap()).unwrap();
        outbound::Settings {
            seat: SeatId::new("content").unwrap(),
            allowed: Allowed::List(vec![rule]),
            limits: outbound::Limits::default(),
            network: Network::new(
                |_, _| Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34))]) }),
                move |_| Box::pin(tokio::net::TcpStream::connect(("127.0.0.1", port))),
            ),
        }
    }
}

/// Answers one request with git's own program for servers; `/private` asks for a login.
fn answer(root: &Path, stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (mut length, mut kind, mut protocol) = (0, String::new(), String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "content-type" => value.clone_into(&mut kind),
            "git-protocol" => value.clone_into(&mut protocol),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut stream = stream;
    if path.starts_with("/private") {
        let refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(refusal.as_bytes());
        return;
    }
    let mut backend = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("CONTENT_TYPE", kind)
        .env("CONTENT_LENGTH", length.to_string())
        .env("GIT_PROTOCOL", protocol)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).unwrap();
    let said = backend.wait_with_output().unwrap().stdout;
    let status = said
        .strip_prefix(b"Status: ")
        .map_or("200 OK".to_owned(), |rest| {
            let end = rest.iter().position(|byte| *byte == b'\r').unwrap();
            String::from_utf8_lossy(&rest[..end]).into_owned()
        });
    let _ = write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n");
    let _ = stream.write_all(&said);
}
