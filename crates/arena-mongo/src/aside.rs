//! Work that takes long without waiting for anything, kept off the threads that answer everybody: a message of
//! megabytes is read, checked and rewritten, and meanwhile nobody else would be served. A user has one such piece of
//! work at a time, so that one who sends many keeps one core busy and not all.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::block_in_place;
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
    /// Messages of so many bytes are expected to take long. To move work costs the waking of a thread, about 0.1 ms,
    /// and a byte of an expression takes up to 0.002 ms, a hundred times as long as one of a document.
    fn large_bytes(self) -> usize {
        match self {
            Self::Documents => 64 * 1024,
            Self::Expressions => 1024,
        }
    }
}

/// What worked for so long without waiting is expected to do so again.
const LONG: Duration = Duration::from_millis(5);

/// A user's turn for long work.
#[derive(Debug, Clone)]
pub(crate) struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// Work that goes aside when it is long; otherwise it is done where it is polled. Each time that it waits for
/// something, its user's next one has its turn.
///
/// # Cancellation
/// As that of the work itself.
pub(crate) struct Aside<'a, F> {
    work: Pin<&'a mut F>,
    is_long: bool,
    turn: Option<PollSemaphore>,
    /// A runtime of one thread has no other that could answer.
    can_move: bool,
}

impl<'a, F: Future> Aside<'a, F> {
    /// Work for a message of so many bytes. Without a turn it waits for nobody.
    pub(crate) fn new(
        work: Pin<&'a mut F>,
        (content, bytes): (Content, usize),
        turn: Option<&Turn>,
    ) -> Self {
        let can_move = Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread;
        Self {
            work,
            is_long: can_move && bytes >= content.large_bytes(),
            turn: turn.map(|turn| PollSemaphore::new(Arc::clone(&turn.0))),
            can_move,
        }
    }
}

impl<F: Future> Future for Aside<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let aside = &mut *self;
        if aside.is_long {
            let _turn = match &mut aside.turn {
                Some(turn) => ready!(turn.poll_acquire(context)),
                None => None,
            };
            return block_in_place(|| aside.work.as_mut().poll(context));
        }
        let started = Instant::now();
        let outcome = aside.work.as_mut().poll(context);
        aside.is_long = aside.can_move && started.elapsed() >= LONG;
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
        let met = Aside::new(pin!(work), message, Some(&Turn::default())).await;
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
                tokio::task::yield_now().await;
                tokio::spawn(async move { met.send(()) });
                meeting.recv_timeout(Duration::from_secs(20)).is_ok()
            };
            Aside::new(pin!(work), (Content::Documents, 0), None).await
        });
        assert!(is_met.await.unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_user_has_one_turn_at_a_time() {
        let turn = Turn::default();
        let held = Arc::clone(&turn.0).acquire_owned().await.unwrap();
        let work = pin!(async { 1 });
        let mut waiting = Aside::new(work, LARGE, Some(&turn));
        let is_waiting = timeout(Duration::ZERO, &mut waiting).await.is_err();
        let work = pin!(async { 2 });
        let neighbour = Aside::new(work, LARGE, Some(&Turn::default())).await;
        assert_eq!((is_waiting, neighbour), (true, 2));
        drop(held);
        assert_eq!(waiting.await, 1);
    }

    #[tokio::test]
    async fn one_thread_does_everything_itself() {
        let work = pin!(async { 1 });
        assert_eq!(Aside::new(work, LARGE, None).await, 1);
    }
}
