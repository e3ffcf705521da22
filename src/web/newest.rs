//! Work that is done once at a time for all clients, of which only the newest is wanted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Hands out turns.
#[derive(Debug, Default)]
pub struct Newest {
    /// Number of the newest request.
    newest: Arc<AtomicU64>,
    running: Arc<Mutex<()>>,
}

/// The right to work. The next one begins when it is dropped.
#[derive(Debug)]
pub struct Turn {
    number: u64,
    newest: Arc<AtomicU64>,
    _running: OwnedMutexGuard<()>,
}

impl Newest {
    /// Waits until the work before has ended. None if there is a newer request by then.
    pub async fn turn(&self) -> Option<Turn> {
        let number = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        let running = self.running.clone().lock_owned().await;
        let turn = Turn { number, newest: self.newest.clone(), _running: running };
        turn.is_newest().then_some(turn)
    }
}

impl Turn {
    /// Whether nobody has asked since. If not, the work should end.
    pub fn is_newest(&self) -> bool {
        self.newest.load(Ordering::Relaxed) == self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn of_those_that_wait_only_the_newest_gets_a_turn() {
        let newest = Newest::default();
        let first = newest.turn().now_or_never().unwrap().unwrap();
        assert!(first.is_newest());
        let mut second = Box::pin(newest.turn());
        let mut third = Box::pin(newest.turn());
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        assert!(!first.is_newest(), "it should end");
        drop(first);
        assert!(second.now_or_never().unwrap().is_none());
        assert!(third.now_or_never().unwrap().unwrap().is_newest());
    }
}
