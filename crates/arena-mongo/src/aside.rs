//! Work that takes long without waiting for anything, kept off the threads that answer everybody: a message of
//! megabytes is read, checked and rewritten, and meanwhile nobody else would be served. A user has one such piece of
//! work at a time, so that one who sends many keeps one core busy and not all.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::{block_in_place, yield_now};
use tokio_util::sync::PollSemaphore;

/// What a message is made of, which tells how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    /// What is read once: documents to store, and any message before it is known.
    Documents,
    /// What may hold expressions, which are checked and rewritten, each level of some several times over.
    Expressions,
}

impl Content {
    /// Messages of so many bytes are expected to take long. To move work costs the waking of threads, about 0.1 ms a
    /// command; four kilobytes of expressions take 10 ms (both measured: docs/figures.md).
    fn large_bytes(self) -> usize {
        match self {
            Self::Documents => 64 * 1024,
            Self::Expressions => 1024,
        }
    }
}

/// What worked for so long without waiting is expected to do so again.
const LONG: Duration = Duration::from_millis(5);
/// And for this time whatever the same user sends.
const EXPECTED: Duration = Duration::from_secs(10);

/// A user's turn for long work.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    permit: Arc<Semaphore>,
    /// When the user's work was long at last, in the way of others.
    long_at: Arc<Mutex<Option<Instant>>>,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            permit: Arc::new(Semaphore::new(1)),
            long_at: Arc::default(),
        }
    }
}

impl Turn {
    fn note_long(&self) {
        *self.long_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn was_long(&self) -> bool {
        let long_at = self.long_at.lock().unwrap_or_else(PoisonError::into_inner);
        long_at.is_some_and(|at| at.elapsed() < EXPECTED)
    }
}

/// Lets others be served if what has been done since then was long, and what follows go aside. For loops of which each
/// part is short.
pub(crate) async fn pause(since: &mut Instant) {
    if since.elapsed() >= LONG {
        yield_now().await;
        *since = Instant::now();
    }
}

/// Messages of fewer bytes are read and written in no time.
const SMALL_BYTES: usize = 4 * 1024;

/// Work that waits for nothing, for documents of so many bytes.
pub(crate) async fn work<T>(bytes: usize, turn: &Turn, work: impl FnOnce() -> T) -> T {
    if bytes < SMALL_BYTES {
        return work();
    }
    Aside::new(pin!(async { work() }), (Content::Documents, bytes), turn).await
}

/// Work that goes aside when it is long; otherwise it is done where it is polled. Each time that it waits for
/// something, its user's next one has its turn.
///
/// # Cancellation
/// As that of the work itself.
pub(crate) struct Aside<'a, F> {
    work: Pin<&'a mut F>,
    is_long: bool,
    turn: &'a Turn,
    permit: PollSemaphore,
    /// A runtime of one thread has no other that could answer.
    can_move: bool,
}

impl<'a, F: Future> Aside<'a, F> {
    /// Work for a message of so many bytes.
    pub(crate) fn new(
        work: Pin<&'a mut F>,
        (content, bytes): (Content, usize),
        turn: &'a Turn,
    ) -> Self {
        let can_move = Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread;
        Self {
            work,
            is_long: can_move && (bytes >= content.large_bytes() || turn.was_long()),
            turn,
            permit: PollSemaphore::new(Arc::clone(&turn.permit)),
            can_move,
        }
    }
}

impl<F: Future> Future for Aside<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let aside = &mut *self;
        if aside.is_long {
            let _turn = ready!(aside.permit.poll_acquire(context));
            return block_in_place(|| aside.work.as_mut().poll(context));
        }
        let started = Instant::now();
        let outcome = aside.work.as_mut().poll(context);
        if aside.can_move && started.elapsed() >= LONG {
            aside.is_long = true;
            aside.turn.note_long();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;

    use tokio::time::timeout;

    use super::*;

    const LARGE: (Content, usize) = (Content::Documents, usize::MAX);

    /// Blocks its thread until another task has had one; whether it had.
    async fn met_while_working(message: (Content, usize), patience: Duration) -> bool {
        let (met, meeting) = mpsc::channel();
        let other = tokio::spawn(async move { met.send(()) });
        let work = async move { meeting.recv_timeout(patience).is_ok() };
        let met = Aside::new(pin!(work), message, &Turn::default()).await;
        // Without a thread of its own it comes too late, when nobody listens any more.
        let _ = other.await;
        met
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_are_served_while_a_large_message_is_worked_on() {
        for content in [Content::Documents, Content::Expressions] {
            let bytes = content.large_bytes();
            let aside = met_while_working((content, bytes), Duration::from_secs(20));
            assert!(tokio::spawn(aside).await.unwrap());
            let here = met_while_working((content, bytes - 1), Duration::from_millis(500));
            let is_met = tokio::spawn(here).await.unwrap();
            assert!(!is_met, "a small one is not worth the move");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_was_long_once_goes_aside() {
        let is_met = tokio::spawn(async {
            let (met, meeting) = mpsc::channel();
            let work = async move {
                std::thread::sleep(LONG);
                yield_now().await;
                tokio::spawn(async move { met.send(()) });
                meeting.recv_timeout(Duration::from_secs(20)).is_ok()
            };
            Aside::new(pin!(work), (Content::Documents, 0), &Turn::default()).await
        });
        assert!(is_met.await.unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_user_has_one_turn_at_a_time() {
        let turn = Turn::default();
        let held = Arc::clone(&turn.permit).acquire_owned().await.unwrap();
        let work = pin!(async { 1 });
        let mut waiting = Aside::new(work, LARGE, &turn);
        let is_waiting = timeout(Duration::ZERO, &mut waiting).await.is_err();
        let work = pin!(async { 2 });
        let neighbour = Aside::new(work, LARGE, &Turn::default()).await;
        assert_eq!((is_waiting, neighbour), (true, 2));
        drop(held);
        assert_eq!(waiting.await, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn whose_work_was_long_is_expected_to_send_such_again() {
        let turn = Turn::default();
        let long = pin!(async { std::thread::sleep(LONG) });
        Aside::new(long, (Content::Documents, 0), &turn).await;
        let next = |turn: &Turn| {
            let mut work = pin!(async {});
            Aside::new(work.as_mut(), (Content::Documents, 0), turn).is_long
        };
        assert!(next(&turn));
        assert!(!next(&Turn::default()), "a neighbour's is not");
        let before = Instant::now().checked_sub(EXPECTED);
        *turn.long_at.lock().unwrap() = before;
        assert!(!next(&turn), "for ever is too long");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_loop_pauses_when_it_was_long() {
        let turn = Turn::default();
        let work = pin!(async {
            let mut since = Instant::now();
            std::thread::sleep(LONG);
            pause(&mut since).await;
        });
        let mut work = Aside::new(work, (Content::Documents, 0), &turn);
        (&mut work).await;
        assert!(work.is_long);
    }

    #[tokio::test]
    async fn one_thread_does_everything_itself() {
        let work = pin!(async { 1 });
        assert_eq!(Aside::new(work, LARGE, &Turn::default()).await, 1);
    }
}
