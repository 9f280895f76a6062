//! Ready checks, restarts, giving up, output.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arena_supervisor::{ChildSpec, LogFile, ParentDeath, Ready, Restart, State, Supervisor};

use crate::world::{LIMIT, eventually, line, quickly, runs, shell, until, until_failed};

#[tokio::test]
async fn a_killed_child_is_started_again() {
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(ChildSpec {
        restart: quickly(5),
        ..shell("echo up; exec sleep 1000")
    });
    let first = until(&child, |status| status.state == State::Ready)
        .await
        .pid
        .unwrap();
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &first.to_string()])
            .status()
            .unwrap()
            .success()
    );
    let second = until(&child, |status| {
        status.state == State::Ready && status.pid != Some(first)
    })
    .await;
    assert_eq!(second.restarts, 1);
    assert!(!runs(&first.to_string()));
    child.stop().await;
    assert_eq!(child.status().state, State::Stopped);
}

/// A helper in a session of its own, as a database server has them: killing the group does not reach it. It tells of
/// itself, so that it is the shell by then and no longer `setsid`.
const LEAVES_A_HELPER: &str = "mkfifo nothing 2> /dev/null; setsid /bin/sh -c 'number=$(ls helpers | wc -l); \
    echo > helpers/$$; echo helper $$ in $number; read line < nothing' & exec sleep 1000";

#[tokio::test]
async fn what_a_killed_child_left_in_its_folder_is_gone_before_the_next_start() {
    for is_alone in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("helpers")).unwrap();
        let supervisor = Supervisor::new().unwrap();
        let child = supervisor.start(ChildSpec {
            directory: folder.path().to_owned(),
            alone_in: is_alone.then(|| folder.path().to_owned()),
            restart: quickly(5),
            ..shell(LEAVES_A_HELPER)
        });
        let helper = async |ending: &str| {
            let said = line(&child, ending).await;
            said.split(' ').nth(1).unwrap().to_owned()
        };
        let first = helper("in 0").await;
        let leader = child.status().pid.unwrap().to_string();
        let kill = |pid: &str| {
            let killed = std::process::Command::new("kill")
                .args(["-9", pid])
                .status();
            assert!(killed.unwrap().success());
        };
        kill(&leader);
        let second = helper("in 1").await;
        assert!(runs(&second));
        // The negative control: nobody else ends it.
        assert_eq!(runs(&first), !is_alone);
        child.stop().await;
        assert_eq!(runs(&second), !is_alone);
        if !is_alone {
            kill(&first);
            kill(&second);
        }
    }
}

#[tokio::test]
async fn another_program_in_that_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut person = std::process::Command::new("sleep")
        .arg("1000")
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(ChildSpec {
        alone_in: Some(folder.path().to_owned()),
        ..shell("exec sleep 1000")
    });
    until(&child, |status| status.state == State::Ready).await;
    child.stop().await;
    assert!(runs(&person.id().to_string()));
    person.kill().unwrap();
    person.wait().unwrap();
}

#[tokio::test]
async fn a_child_that_keeps_failing_is_given_up_with_its_last_output() {
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(ChildSpec {
        restart: quickly(2),
        ..shell("echo no such module >&2; exit 3")
    });
    let message = until_failed(&child).await;
    assert!(
        message.contains("exit code 3") && message.contains("no such module"),
        "{message}"
    );
    assert_eq!(child.status().restarts, 2);
    assert_eq!(child.tail(100).len(), 3, "ran three times");
    child.restart();
    until(&child, |status| status.restarts >= 4).await;
    child.stop().await;
}

#[tokio::test]
async fn a_missing_program_is_named() {
    for parent_death in [None, Some(ParentDeath::Kill)] {
        let supervisor = Supervisor::new().unwrap();
        let spec = ChildSpec {
            restart: quickly(1),
            parent_death,
            ..ChildSpec::new("ghost", "/no/such/program")
        };
        let message = until_failed(&supervisor.start(spec)).await;
        assert!(message.contains("/no/such/program"), "{message}");
    }
}

#[tokio::test]
async fn a_program_that_shall_run_once_ends_with_its_exit_code() {
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(ChildSpec {
        restart: Restart::never(),
        ..shell("echo done; exit 7")
    });
    let status = until(&child, |status| matches!(status.state, State::Ended(..))).await;
    let State::Ended(code, message) = status.state else {
        unreachable!()
    };
    assert_eq!(code, Some(7));
    assert!(message.contains("done"), "{message}");
}

#[tokio::test]
async fn a_port_makes_a_child_ready_and_descriptors_are_handed_over_at_every_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let spec = ChildSpec {
        args: vec!["-c".into(), "import socket,time; s=socket.socket(fileno=3); print('name', s.getsockname()[1], flush=True); time.sleep(1000)".into()],
        descriptors: vec![(Arc::new(OwnedFd::from(listener)), 3)],
        ready: Ready::Port(port),
        restart: quickly(5),
        parent_death: Some(ParentDeath::Kill),
        ..ChildSpec::new("python", "/usr/bin/python3")
    };
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(spec);
    child.ready(LIMIT).await.unwrap();
    assert_eq!(line(&child, "name").await, format!("name {port}"));
    child.restart();
    until(&child, |status| {
        status.restarts == 1 && status.state == State::Ready
    })
    .await;
    // Our own end keeps the port open, so the second line may come later than the state.
    eventually("second start", || child.tail(10).len() == 2).await;
}

#[tokio::test]
async fn a_child_is_not_ready_before_its_port_is_open() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let supervisor = Supervisor::new().unwrap();
    let script = format!(
        "import socket,time,os\nwhile not os.path.exists('go'): time.sleep(0.01)\ns=socket.create_server(('127.0.0.1',{port}))\ntime.sleep(1000)"
    );
    let folder = tempfile::tempdir().unwrap();
    let child = supervisor.start(ChildSpec {
        args: vec!["-c".into(), script.into()],
        directory: folder.path().to_owned(),
        ready: Ready::Port(port),
        ..ChildSpec::new("late", "/usr/bin/python3")
    });
    assert!(
        child
            .ready(Duration::from_millis(300))
            .await
            .unwrap_err()
            .to_string()
            .contains("not ready")
    );
    std::fs::write(folder.path().join("go"), "").unwrap();
    child.ready(LIMIT).await.unwrap();
    supervisor.stop_all(&Default::default()).await;
}

#[tokio::test]
async fn a_child_that_is_never_ready_is_a_failure() {
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(ChildSpec {
        ready: Ready::Line("never said".to_owned()),
        ready_within: Duration::from_millis(50),
        restart: quickly(1),
        ..shell("echo something else; exec sleep 1000")
    });
    assert!(until_failed(&child).await.contains("not ready"));
}

#[tokio::test]
async fn an_http_answer_of_200_makes_ready_and_500_does_not() {
    for (code, wanted) in [(200, true), (500, false)] {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let script = format!(
            "import http.server\nclass H(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n  self.send_response({code}); self.end_headers()\nprint('listening', flush=True)\nhttp.server.HTTPServer(('127.0.0.1',{port}),H).serve_forever()"
        );
        let supervisor = Supervisor::new().unwrap();
        let child = supervisor.start(ChildSpec {
            args: vec!["-u".into(), "-c".into(), script.into()],
            ready: Ready::Http(port, "/healthz".to_owned()),
            ..ChildSpec::new("web", "/usr/bin/python3")
        });
        if wanted {
            child.ready(LIMIT).await.unwrap();
        } else {
            line(&child, "500").await;
            assert_eq!(child.status().state, State::Starting);
        }
    }
}

#[tokio::test]
async fn output_goes_to_a_rotated_file_of_bounded_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flood.log");
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(ChildSpec {
        log: Some(LogFile { size_bytes: 10_000, files: 3, ..LogFile::new(&path) }),
        restart: Restart::never(),
        ..shell("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; printf 'no newline'; head -c 100000 /dev/zero")
    });
    until(&child, |status| matches!(status.state, State::Ended(..))).await;
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["flood.log", "flood.log.1", "flood.log.2"]);
    for name in names {
        assert!(std::fs::metadata(folder.path().join(name)).unwrap().len() <= 10_000);
    }
    assert!(child.tail(1000).len() <= 200);
    assert!(
        child
            .tail(1000)
            .iter()
            .map(|line| line.len())
            .sum::<usize>()
            <= 64 * 1024
    );
}

#[tokio::test]
async fn a_reader_sees_kept_lines_then_new_ones_once_each() {
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(ChildSpec {
        restart: Restart::never(),
        ..shell("echo one; echo two >&2; sleep 0.1; echo three")
    });
    until(&child, |status| matches!(status.state, State::Ended(..))).await;
    child.note("four");
    let mut follow = child.follow();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(follow.next().await.unwrap().to_string());
    }
    seen[..2].sort();
    assert_eq!(seen, ["one", "two", "three", "four"]);
    child.stop().await;
    assert!(follow.next().await.is_none());
}

#[tokio::test]
async fn nothing_of_our_environment_reaches_a_child() {
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(ChildSpec {
        restart: Restart::never(),
        ..ChildSpec::new("env", "/usr/bin/env")
    });
    until(&child, |status| matches!(status.state, State::Ended(..))).await;
    assert!(child.tail(10).is_empty(), "{:?}", child.tail(10));
}
