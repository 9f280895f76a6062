//! What the stories share: shell children, waiting with a limit, looking at /proc.

use std::time::{Duration, Instant};

use arena_supervisor::{Child, ChildSpec, Restart, State, Status};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A child that runs a shell script.
pub(crate) fn shell(script: &str) -> ChildSpec {
    ChildSpec {
        args: vec!["-c".into(), script.into()],
        environment: [("PATH".into(), "/usr/bin:/bin".into())].into(),
        ..ChildSpec::new("child", "/bin/sh")
    }
}

/// Restarts fast enough for a test.
pub(crate) fn quickly(attempts: u32) -> Restart {
    Restart {
        attempts,
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(40),
        healthy_after: Duration::from_secs(30),
    }
}

pub(crate) async fn until(child: &Child, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut changes = child.changes();
    let found = tokio::time::timeout(LIMIT, changes.wait_for(wanted)).await;
    found
        .unwrap_or_else(|_| panic!("still {:?}", child.status()))
        .expect("the handle keeps the sender")
        .clone()
}

pub(crate) async fn until_failed(child: &Child) -> String {
    match until(child, |status| matches!(status.state, State::Failed(_)))
        .await
        .state
    {
        State::Failed(message) => message,
        other => panic!("{other:?}"),
    }
}

/// The first line of output that contains `text`.
pub(crate) async fn line(child: &Child, text: &str) -> String {
    let mut follow = child.follow();
    let found = async {
        loop {
            match follow.next().await {
                Some(line) if line.contains(text) => return line.to_string(),
                Some(_) => {}
                None => panic!("ended without `{text}`"),
            }
        }
    };
    tokio::time::timeout(LIMIT, found)
        .await
        .unwrap_or_else(|_| panic!("no line with `{text}`: {:?}", child.tail(20)))
}

/// Whether a process runs (a zombie does not).
pub(crate) fn runs(pid: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim()
        .chars()
        .next();
    !matches!(state, Some('Z' | 'X') | None)
}

pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
