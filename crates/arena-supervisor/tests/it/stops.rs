//! How children end: politely, by force, with their families, in order.

use std::time::{Duration, Instant};

use arena_supervisor::{ChildSpec, State, StopSignal, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::world::{LIMIT, eventually, line, runs, shell};

const STUBBORN: &str = "trap '' TERM INT; echo up; while :; do sleep 0.05; done";

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed_after_its_grace() {
    let supervisor = Supervisor::new().unwrap();
    let grace = Duration::from_millis(300);
    let child = supervisor.start(ChildSpec {
        grace,
        ..shell(STUBBORN)
    });
    line(&child, "up").await;
    let pid = child.status().pid.unwrap().to_string();
    let start = Instant::now();
    child.stop().await;
    assert!(start.elapsed() >= grace, "{:?}", start.elapsed());
    assert!(!runs(&pid));
}

#[tokio::test]
async fn a_child_may_finish_its_work_within_its_grace() {
    let supervisor = Supervisor::new().unwrap();
    let script = "trap 'sleep 0.2; echo saved; exit 0' INT; echo up; while :; do sleep 0.02; done";
    let child = supervisor.start(ChildSpec {
        stop_signal: StopSignal::Interrupt,
        grace: LIMIT,
        ..shell(script)
    });
    line(&child, "up").await;
    child.stop().await;
    assert_eq!(child.tail(1)[0].as_ref(), "saved");
}

#[tokio::test]
async fn grandchildren_end_with_their_family() {
    let supervisor = Supervisor::new().unwrap();
    let script = "(trap '' TERM; exec >/dev/null 2>&1; while :; do sleep 0.05; done) & echo grandchild $!; wait";
    let child = supervisor.start(ChildSpec {
        grace: Duration::from_millis(200),
        ..shell(script)
    });
    let pid = line(&child, "grandchild").await.replace("grandchild ", "");
    assert!(runs(&pid));
    child.stop().await;
    eventually("grandchild gone", || !runs(&pid)).await;
}

#[tokio::test]
async fn grandchildren_of_a_child_that_crashed_end_too() {
    let supervisor = Supervisor::new().unwrap();
    let script = "sleep 1000 & echo grandchild $!; exit 1";
    let child = supervisor.start(shell(script));
    let pid = line(&child, "grandchild").await.replace("grandchild ", "");
    eventually("grandchild gone", || !runs(&pid)).await;
    child.stop().await;
}

#[tokio::test]
async fn a_grandchild_that_finishes_its_work_has_the_grace_too() {
    let supervisor = Supervisor::new().unwrap();
    let script = "sh -c \"trap 'sleep 0.3; echo flushed; exit' TERM; echo up; while :; do sleep 0.02; done\" & wait";
    let child = supervisor.start(ChildSpec {
        grace: LIMIT,
        ..shell(script)
    });
    line(&child, "up").await;
    child.stop().await;
    assert_eq!(child.tail(1)[0].as_ref(), "flushed");
}

#[tokio::test]
async fn children_stop_in_reverse_order_of_start() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new().unwrap();
    for name in ["one", "two", "three"] {
        let script = format!(
            "trap 'sleep 0.05; echo {name} >> order; exit' TERM; echo up; while :; do sleep 0.01; done"
        );
        let child = supervisor.start(ChildSpec {
            directory: folder.path().to_owned(),
            ..shell(&script)
        });
        line(&child, "up").await;
    }
    supervisor.stop_all(&CancellationToken::new()).await;
    assert_eq!(
        std::fs::read_to_string(folder.path().join("order")).unwrap(),
        "three\ntwo\none\n"
    );
    assert!(supervisor.children().is_empty());
}

#[tokio::test]
async fn children_that_belong_together_stop_at_once() {
    let supervisor = Supervisor::new().unwrap();
    for _ in 0..5 {
        let together = Some("seats".to_owned());
        let child = supervisor.start(ChildSpec {
            together,
            grace: Duration::from_secs(2),
            ..shell(STUBBORN)
        });
        line(&child, "up").await;
    }
    let start = Instant::now();
    supervisor.stop_all(&CancellationToken::new()).await;
    // One after the other would take ten seconds.
    assert!(
        start.elapsed() < Duration::from_millis(9_900),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_second_interrupt_ends_everything_at_once() {
    let supervisor = Supervisor::new().unwrap();
    for _ in 0..3 {
        line(
            &supervisor.start(ChildSpec {
                grace: LIMIT,
                ..shell(STUBBORN)
            }),
            "up",
        )
        .await;
    }
    let at_once = CancellationToken::new();
    let again = at_once.clone();
    let start = Instant::now();
    tokio::join!(supervisor.stop_all(&at_once), async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        again.cancel();
    });
    assert!(start.elapsed() < LIMIT / 2);
}

#[tokio::test]
async fn a_dropped_supervisor_leaves_nothing_behind() {
    let supervisor = Supervisor::new().unwrap();
    let child = supervisor.start(shell(STUBBORN));
    line(&child, "up").await;
    let pid = child.status().pid.unwrap().to_string();
    drop(supervisor);
    child.stopped().await;
    assert_eq!(child.status().state, State::Stopped);
    eventually("child gone", || !runs(&pid)).await;
}
