//! The threads that answer clients. They are the front's own: what a client asks does not hold up the rest of the
//! process, nor the rest of the process a client that is connected. There are fewer of them than processors, since a
//! command costs the engine more than the front, and each thread more has to be woken up.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

/// Name of the front's threads, as `top -H` shows them.
pub const THREAD_NAME: &str = "arena-mongo";
/// Only what is used of a stack is taken. Documents of a hundred levels become deeper ones on their way to the engine,
/// and are read level by level.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Half as many as there are processors, at least one: the engine needs the others.
pub(crate) fn usual() -> NonZeroUsize {
    static PROCESSORS: LazyLock<usize> =
        LazyLock::new(|| available_parallelism().map_or(1, NonZeroUsize::get));
    NonZeroUsize::new(*PROCESSORS / 2).unwrap_or(NonZeroUsize::MIN)
}

/// Ends its threads when dropped, and what runs on them where it waits next.
pub(crate) struct Threads(Option<Runtime>);

impl Threads {
    pub(crate) fn start(number: NonZeroUsize) -> io::Result<Self> {
        // With one thread also of several: only these give their other work away for long work (`aside.rs`).
        let runtime = Builder::new_multi_thread()
            .worker_threads(number.get())
            .thread_name(THREAD_NAME)
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// The outcome of `work` on these threads; nothing if they end before. Its panic is the caller's.
    ///
    /// # Cancellation
    /// The work goes on until the threads end.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
    {
        match self.0.as_ref()?.spawn(work).await {
            Ok(outcome) => Some(outcome),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => None,
            },
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for what blocks would hold up the process around.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::thread;
    use std::time::Duration;

    use tokio::sync::oneshot::{self, error::TryRecvError};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn work_runs_on_threads_of_its_own() {
        let threads = Threads::start(NonZeroUsize::MIN).unwrap();
        let here = async { thread::current().name().map(str::to_owned) };
        assert_eq!(
            threads.run(here).await.flatten().as_deref(),
            Some(THREAD_NAME)
        );
    }

    #[tokio::test]
    async fn a_panic_is_the_callers() {
        let threads = Threads::start(NonZeroUsize::MIN).unwrap();
        let work = tokio::spawn(async move { threads.run(async { panic!("a test's") }).await });
        let work: Result<Option<()>, _> = work.await;
        assert!(work.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn what_runs_ends_with_its_threads() {
        let threads = Threads::start(NonZeroUsize::MIN).unwrap();
        let (held, mut ended) = oneshot::channel::<()>();
        let work = async move {
            let _held = held;
            pending::<()>().await;
        };
        let is_running = timeout(Duration::from_millis(50), threads.run(work)).await;
        assert!(is_running.is_err(), "it goes on when nobody waits for it");
        assert_eq!(ended.try_recv(), Err(TryRecvError::Empty));
        drop(threads);
        let ended = timeout(Duration::from_secs(20), ended).await;
        assert!(ended.unwrap().is_err());
    }
}
