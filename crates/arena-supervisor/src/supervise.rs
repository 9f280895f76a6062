//! The loop of one child: start, watch, restart or give up, stop. One task per
//! child runs [`supervise`]; everything about the child happens in it.

use std::hash::BuildHasher;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::process::{Process, Spawner, describe};
use crate::strangers::end_others;
use crate::{Child, ChildSpec, Ready, Restart, State};

/// Lines of output shown when a child is given up.
const LAST_LINES: usize = 20;
/// After a leader has ended by itself, its output may come for this long before the group is killed.
const DRAIN: Duration = Duration::from_millis(200);

/// Runs a child until it is stopped.
pub(crate) async fn supervise(spec: ChildSpec, child: Child, spawner: Spawner) {
    let _farewell = Farewell(child.clone());
    let mut failures = 0_u32;
    if spec.asleep && wait_for_orders(&child, None).await {
        return;
    }
    loop {
        child.set(State::Starting, None);
        let started = Instant::now();
        let end = run_once(&spec, &child, &spawner).await;
        let message = match end {
            End::Stopped => return,
            End::Restart => {
                failures = 0;
                count_restart(&child);
                continue;
            }
            End::Exited(status) if spec.restart.attempts == 0 => {
                child.set(
                    State::Ended(status.code(), with_output(&child, describe(status))),
                    None,
                );
                if wait_for_orders(&child, None).await {
                    return;
                }
                count_restart(&child);
                continue;
            }
            End::Exited(status) => describe(status),
            End::Refused(message) => message,
        };
        if started.elapsed() >= spec.restart.healthy_after {
            failures = 0;
        }
        failures += 1;
        let wait = if failures > spec.restart.attempts {
            let last = with_output(&child, message);
            tracing::warn!(
                service.name = child.name(),
                "{} was given up: {last}",
                child.name()
            );
            child.set(State::Failed(last), None);
            failures = 0;
            None
        } else {
            child.set(State::Waiting(message), None);
            Some(backoff(&spec.restart, failures))
        };
        if wait_for_orders(&child, wait).await {
            return;
        }
        count_restart(&child);
    }
}

/// Says that the child is gone, also when its task is aborted or panics.
struct Farewell(Child);

impl Drop for Farewell {
    fn drop(&mut self) {
        let state = if std::thread::panicking() {
            State::Failed("its supervising task panicked, which is a bug in Arena".to_owned())
        } else {
            State::Stopped
        };
        self.0.set(state, None);
        self.0.inner.output.close();
        self.0.inner.gone.cancel();
    }
}

/// How one run came to its end.
enum End {
    Stopped,
    Restart,
    Exited(ExitStatus),
    Refused(String),
}

/// Starts the process and stays with it until it is gone.
async fn run_once(spec: &ChildSpec, child: &Child, spawner: &Spawner) -> End {
    let inner = &child.inner;
    if inner.stop.is_cancelled() {
        return End::Stopped;
    }
    end_others(spec).await;
    let lines = matches!(spec.ready, Ready::Line(_)).then(|| inner.output.follow_new());
    let mut process = match spawner.spawn(spec).await {
        Ok(process) => process,
        Err(error) => {
            return End::Refused(format!("cannot start {}: {error}", spec.program.display()));
        }
    };
    let pid = Some(process.id());
    child.set(State::Starting, pid);
    let (stdout, stderr) = process.take_output();
    let pump = inner.output.pump(stdout, stderr);
    tokio::pin!(pump);
    let mut drained = false;
    let watch = async {
        // `wait` may be dropped halfway: it only asks questions.
        match timeout(spec.ready_within, spec.ready.wait(lines)).await {
            Ok(()) => child.set(State::Ready, pid),
            Err(_) => return format!("it was not ready after {} s", spec.ready_within.as_secs()),
        }
        std::future::pending().await
    };
    tokio::pin!(watch);
    let why = loop {
        // Every branch only waits: what is dropped halfway is asked again or no longer of interest.
        // `pump` is not dropped but polled on in `end`.
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => break Why::Stop,
            () = inner.restart.notified() => break Why::Restart,
            () = process.exited() => break Why::Exit,
            late = &mut watch => break Why::Late(late),
            () = &mut pump, if !drained => drained = true,
        }
    };
    let pump = async {
        if !drained {
            pump.await;
        }
    };
    tokio::pin!(pump);
    let after = match why {
        Why::Exit => {
            let _ = timeout(DRAIN, pump).await;
            let unknown = |error| End::Refused(format!("it cannot be waited for: {error}"));
            return process.reap().map_or_else(unknown, End::Exited);
        }
        Why::Stop => End::Stopped,
        Why::Restart => End::Restart,
        Why::Late(message) => End::Refused(message),
    };
    stop(spec, child, process, pump).await;
    end_others(spec).await;
    after
}

/// Why a run ends.
enum Why {
    Stop,
    Restart,
    Exit,
    Late(String),
}

/// Signal, grace, kill. Grandchildren have the grace too: after the leader's exit we wait until
/// nobody holds its output any more.
async fn stop(spec: &ChildSpec, child: &Child, process: Process, pump: impl Future<Output = ()>) {
    process.signal(spec.stop_signal);
    let over = async { tokio::join!(pump, process.exited()) };
    // Dropping `over` loses at most the last lines of a killed child.
    tokio::select! {
        _ = timeout(spec.grace, over) => {}
        () = child.inner.kill.cancelled() => {}
    }
    process.kill();
    process.exited().await;
    if let Err(error) = process.reap() {
        tracing::warn!(service.name = child.name(), error = %error, "{} cannot be waited for", child.name());
    }
}

/// Waits for the time to pass or a restart. True: stop.
async fn wait_for_orders(child: &Child, wait: Option<Duration>) -> bool {
    let pause = async {
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    };
    // Nothing is lost by dropping any of these.
    tokio::select! {
        biased;
        () = child.inner.stop.cancelled() => true,
        () = child.inner.restart.notified() => false,
        () = pause => false,
    }
}

fn count_restart(child: &Child) {
    child
        .inner
        .status
        .send_modify(|status| status.restarts = status.restarts.saturating_add(1));
}

/// Doubling waits with up to a quarter of jitter, so that many children do not restart in step.
fn backoff(restart: &Restart, failures: u32) -> Duration {
    let doubled = restart
        .first_wait
        .saturating_mul(1_u32 << failures.saturating_sub(1).min(16));
    let wait = doubled.min(restart.longest_wait);
    // The standard library's hasher is seeded at random; that is random enough here.
    let chance = std::hash::RandomState::new().hash_one(failures) % 256;
    wait + wait * u32::try_from(chance).unwrap_or(0) / 1024
}

/// A reason with the last lines of output below it.
fn with_output(child: &Child, reason: String) -> String {
    let tail = child.tail(LAST_LINES);
    if tail.is_empty() {
        return format!("{reason}, without any output");
    }
    format!("{reason}; its last output:\n{}", tail.join("\n"))
}
