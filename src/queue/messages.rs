//! The message queues from the stages to the publisher.
//!
//! Durable messages wait without a limit, because the publisher writes them to disk at once. Of transient
//! messages at most `capacity` wait; beyond that the oldest are dropped and counted. Sending never blocks, so
//! a publisher that lags behind cannot hold up the analysis.

use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Creates a pair of queues: one for messages for which `is_durable` returns true, one for up to `capacity`
/// others.
pub fn messages<M>(
    capacity: usize,
    is_durable: impl Fn(&M) -> bool + Send + Sync + 'static,
) -> (MessageSender<M>, Messages<M>) {
    let (durable, durable_receiver) = crossbeam_channel::unbounded();
    let (transient, transient_receiver) = crossbeam_channel::bounded(capacity);
    let sender = MessageSender {
        is_durable: Arc::new(is_durable),
        durable,
        transient,
        oldest: transient_receiver.clone(),
        dropped: Arc::default(),
        listener: None,
    };
    (sender, Messages { durable: durable_receiver, transient: transient_receiver })
}

/// The receiving end of [`messages`].
pub struct Messages<M> {
    /// Messages that are never dropped.
    pub durable: Receiver<M>,
    /// The newest of the other messages.
    pub transient: Receiver<M>,
}

impl<M> Clone for Messages<M> {
    fn clone(&self) -> Self {
        Messages { durable: self.durable.clone(), transient: self.transient.clone() }
    }
}

/// Is told of messages, see [`MessageSender::listen`].
type Listener<M> = Arc<dyn Fn(&M) + Send + Sync>;

/// The sending end of [`messages`].
pub struct MessageSender<M> {
    is_durable: Arc<dyn Fn(&M) -> bool + Send + Sync>,
    durable: Sender<M>,
    transient: Sender<M>,
    /// Takes out the oldest transient message when the queue is full. The publisher receives from the same
    /// queue.
    oldest: Receiver<M>,
    dropped: Arc<AtomicU64>,
    /// Is told of every message, on the sender's thread.
    listener: Option<Listener<M>>,
}

impl<M> Clone for MessageSender<M> {
    fn clone(&self) -> Self {
        MessageSender {
            is_durable: self.is_durable.clone(),
            durable: self.durable.clone(),
            transient: self.transient.clone(),
            oldest: self.oldest.clone(),
            dropped: self.dropped.clone(),
            listener: self.listener.clone(),
        }
    }
}

impl<M> MessageSender<M> {
    /// Has `listener` be told of every message that this sender and its later clones send, before it is
    /// queued. It runs on the sender's thread and must not block.
    pub fn listen(&mut self, listener: impl Fn(&M) + Send + Sync + 'static) {
        self.listener = Some(Arc::new(listener));
    }

    /// Queues a message. If the transient queue is full, its oldest message is dropped. Never blocks.
    pub fn send(&self, message: M) {
        if let Some(listener) = &self.listener {
            listener(&message);
        }
        if (self.is_durable)(&message) {
            // Fails only if the receiver is gone.
            let _ = self.durable.send(message);
            return;
        }
        let mut message = message;
        // Terminates because each iteration either sends the message or frees a place.
        while let Err(TrySendError::Full(rejected)) = self.transient.try_send(message) {
            if self.oldest.try_recv().is_ok() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            message = rejected;
        }
    }

    /// The number of dropped messages. Holding it does not keep the queue open.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_of_every_message() {
        let (mut sender, receiver) = messages(1, |_| false);
        let heard: Arc<std::sync::Mutex<Vec<u32>>> = Arc::default();
        let heard_too = heard.clone();
        sender.listen(move |message| heard_too.lock().unwrap().push(*message));
        let clone = sender.clone();
        sender.send(1);
        clone.send(2);
        assert_eq!(*heard.lock().unwrap(), [1, 2]);
        assert_eq!(receiver.transient.try_iter().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn durable_messages_wait_and_the_oldest_transient_ones_are_dropped_and_counted() {
        let (sender, receiver) = messages(2, |message| message % 10 == 0);
        for message in [1, 2, 10, 3, 4, 20, 5, 30] {
            sender.send(message);
        }
        assert_eq!(receiver.transient.try_iter().collect::<Vec<_>>(), [4, 5]);
        assert_eq!(receiver.durable.try_iter().collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(sender.dropped().load(Ordering::Relaxed), 3);
    }
}
