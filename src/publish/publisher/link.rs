//! The link to the broker: connects, handles the events of the connection, and reconnects.

use super::{ACK_TIMEOUT, PublishLoop, session::Session};
use crate::publish::connection::{Connection, LinkEvent};
use std::{sync::atomic::Ordering, time::Duration};

/// Maximum delay before the next connection while a message is suspected of ending connections. The broker is
/// available then, so the message can be found soon.
const MAX_POISON_DELAY: Duration = Duration::from_secs(1);

/// State of the link.
pub(super) enum Link {
    /// Not connected. The next attempt is due at this monotonic time.
    Down { retry_at: Duration },
    /// Dialled, not accepted by the broker yet.
    Connecting(Box<dyn Connection>),
    /// Accepted by the broker.
    Established(Session),
}

impl PublishLoop {
    pub(super) fn connect_if_due(&mut self) {
        let Link::Down { retry_at } = self.link else { return };
        if self.now() < retry_at {
            return;
        }
        self.connection_number += 1;
        match self.dialer.dial(self.reconnect.broker(), self.connection_number) {
            Ok(connection) => self.link = Link::Connecting(connection),
            Err(why) => self.connection_failed(&why, true),
        }
    }

    /// Handles an event of connection `number`. Events of earlier connections are ignored.
    pub(super) fn handle_event(&mut self, number: u64, event: LinkEvent) {
        if number != self.connection_number {
            return;
        }
        let now = self.now();
        if event.is_from_broker() {
            self.state.replay.broker_seen(now);
        }
        match event {
            LinkEvent::Alive => {}
            LinkEvent::Connected => self.start_session(),
            LinkEvent::Sent(id) => {
                if let Link::Established(session) = &mut self.link {
                    session.window.sent(id, now);
                }
            }
            LinkEvent::Acknowledged(id) => {
                if let Link::Established(session) = &mut self.link {
                    session.acknowledged(id, &mut self.state);
                }
            }
            LinkEvent::Failed { why, refused } => self.connection_failed(&why, refused),
            LinkEvent::Disconnected => self.connection_failed("camfire has disconnected from it", false),
            LinkEvent::Subscribed(is_granted) => {
                if !is_granted {
                    tracing::error!(
                        broker = self.broker_name(),
                        "Broker refuses the subscription for commands; check its access rules."
                    );
                }
                if let Link::Established(session) = &mut self.link {
                    session.subscribed();
                }
            }
            LinkEvent::Received { topic, retained, payload } => {
                self.state.receive(&topic, retained, &payload);
            }
        }
    }

    /// The broker has accepted the connection.
    fn start_session(&mut self) {
        let link = std::mem::replace(&mut self.link, Link::Down { retry_at: Duration::MAX });
        let Link::Connecting(connection) = link else {
            self.link = link;
            return;
        };
        let now = self.now();
        if self.reconnect.connected(now) {
            self.log_connected();
        }
        self.set_connected(true);
        self.state.context.counters.connections.fetch_add(1, Ordering::Relaxed);
        let (resume_row, replay_delay) = self.state.prepare_for_session();
        let mut session = Session::new(connection, resume_row, now, replay_delay);
        session.subscribe(&self.state.subscription_filters());
        self.link = Link::Established(session);
    }

    /// Aborts the connection if the broker does not answer in time.
    pub(super) fn check_timeouts(&mut self, now: Duration) {
        let Link::Established(session) = &self.link else { return };
        if session.window.is_overdue(now, ACK_TIMEOUT) {
            let why = format!("it did not acknowledge a message for {} s", ACK_TIMEOUT.as_secs());
            self.connection_failed(&why, false);
        } else if session.is_subscription_overdue(now) {
            self.connection_failed("it did not answer a subscription", false);
        }
    }

    /// The connection was lost or could not be established. Schedules the next one.
    fn connection_failed(&mut self, why: &str, refused: bool) {
        let now = self.now();
        let broker = self.broker_name();
        let link = std::mem::replace(&mut self.link, Link::Down { retry_at: Duration::MAX });
        self.set_connected(false);
        let mut max_delay = Duration::MAX;
        if let Link::Established(session) = link {
            self.state.session_ended(&session.window, session.progress);
            if self.state.poison.has_suspects() && session.progress.is_online_acknowledged {
                max_delay = MAX_POISON_DELAY;
            }
        }
        let delay = self.reconnect.failed(refused, now).min(max_delay);
        self.reconnect.log_failure(&broker, why);
        self.link = Link::Down { retry_at: now + delay };
    }

    /// The row after which the next connection resumes, or the next process if this one ends now.
    pub(super) fn resume_row(&self) -> i64 {
        let sent_before = match &self.link {
            Link::Established(session) => session.window.completed_row(),
            Link::Down { .. } | Link::Connecting(_) => self.state.replay.resume_row(),
        };
        self.state.replay.replay_row(self.state.outbox.cursor()).min(sent_before)
    }

    /// Name of the current broker.
    pub(super) fn broker_name(&self) -> String {
        self.dialer.name(self.reconnect.broker())
    }
}
