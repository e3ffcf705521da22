//! Finds the message on which one connection after another ends, so that a message that no broker accepts
//! does not block all others. Pure.
//!
//! A lost connection without a new acknowledgement makes all messages in flight suspects. Suspects are sent
//! one at a time from then on. If [`MAX_FAILURES`] connections in a row end while the same message is alone
//! in flight, it is the poison message.

use super::window::{InFlight, Window};

/// Number of connections in a row that end on the same message before it is given up.
const MAX_FAILURES: u32 = 5;

/// Detects poison messages.
#[derive(Default)]
pub(super) struct PoisonDetector(Option<Suspects>);

/// The messages that may be poison.
struct Suspects {
    /// Rows up to this one are suspects.
    last_row: i64,
    /// Whether states are suspects.
    states: bool,
    /// The message that was alone in flight when the last connections ended, and how many these were.
    single: Option<(InFlight, u32)>,
}

/// Progress of a connection, as far as it matters here.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Progress {
    /// Whether `online` was acknowledged, so small messages are accepted.
    pub(super) is_online_acknowledged: bool,
    /// Whether a row was acknowledged that never had been before.
    pub(super) has_new_acknowledgement: bool,
    /// Whether all rows were queued at some time, so that states were sent from then on.
    pub(super) has_caught_up: bool,
}

impl PoisonDetector {
    /// Whether there are suspects.
    pub(super) fn has_suspects(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a connection has ended on a suspect that was alone in flight.
    pub(super) fn has_single_suspect(&self) -> bool {
        self.0.as_ref().is_some_and(|suspects| suspects.single.is_some())
    }

    /// Whether states must be sent one at a time before any further row: they are suspects, and the suspected
    /// rows are delivered.
    pub(super) fn must_test_states(&self, cursor: i64, progress: Progress) -> bool {
        let is_due =
            |suspects: &Suspects| suspects.states && cursor >= suspects.last_row && progress.has_caught_up;
        self.0.as_ref().is_some_and(is_due)
    }

    /// Maximum number of messages in flight, when everything up to `cursor` is acknowledged: `usual`, or one
    /// while suspects are tested. Zero before `online` is acknowledged, because only that shows that the
    /// broker accepts small messages.
    pub(super) fn max_in_flight(&self, usual: usize, cursor: i64, progress: Progress) -> usize {
        let Some(suspects) = &self.0 else { return usual };
        // Rows after the suspected ones do not wait until states are tested.
        if cursor >= suspects.last_row && !self.must_test_states(cursor, progress) {
            usual
        } else {
            usize::from(progress.is_online_acknowledged)
        }
    }

    /// Evaluates a lost connection. Returns the poison message once it is found.
    pub(super) fn connection_lost(&mut self, window: &Window, progress: Progress) -> Option<InFlight> {
        let mut in_flight = window.messages();
        let states = in_flight.clone().any(|message| matches!(message, InFlight::State(_)));
        if in_flight.clone().all(InFlight::is_harmless) {
            return None;
        }
        let Some(suspects) = &mut self.0 else {
            // If a row was acknowledged, the next one is not suspected yet. States are, because they are sent
            // again on every connection.
            if states || !progress.has_new_acknowledgement {
                self.0 = Some(Suspects { last_row: window.last_row(), states, single: None });
            }
            return None;
        };
        let (Some(only), None) = (in_flight.next(), in_flight.next()) else {
            // There was more than one in flight, so all of them are suspects.
            if !progress.has_new_acknowledgement {
                suspects.last_row = suspects.last_row.max(window.last_row());
            }
            suspects.states |= states;
            return None;
        };
        // A broker that does not even acknowledge `online` has another problem.
        if !progress.is_online_acknowledged {
            return None;
        }
        let failures = match &suspects.single {
            Some((message, failures)) if message == only => failures + 1,
            _ => 1,
        };
        suspects.single = Some((only.clone(), failures));
        if failures < MAX_FAILURES {
            return None;
        }
        self.0 = None;
        Some(only.clone())
    }

    /// Clears the suspicions once all suspects are delivered: rows up to `cursor` are, and all states if
    /// `states`.
    pub(super) fn clear_delivered(&mut self, cursor: i64, states: bool) {
        self.0.take_if(|suspects| cursor >= suspects.last_row && (states || !suspects.states));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(messages: &[InFlight]) -> Window {
        let mut window = Window::new(0);
        messages.iter().for_each(|message| window.queued(message.clone()));
        window
    }

    const NEW: Progress =
        Progress { is_online_acknowledged: false, has_new_acknowledgement: false, has_caught_up: false };
    const ONLINE: Progress = Progress { is_online_acknowledged: true, ..NEW };

    #[test]
    fn a_message_alone_in_flight_at_five_ends_is_poison() {
        let mut poison = PoisonDetector::default();
        let rows = [1, 2, 3].map(InFlight::Row);
        let acknowledged = Progress { has_new_acknowledgement: true, ..ONLINE };
        assert_eq!(poison.connection_lost(&window(&rows), acknowledged), None);
        assert!(!poison.has_suspects(), "a row was acknowledged");
        assert_eq!(poison.connection_lost(&window(&rows), ONLINE), None);
        assert_eq!([NEW, ONLINE].map(|progress| poison.max_in_flight(100, 0, progress)), [0, 1]);
        for end in 1..=5 {
            // Ends before `online` is acknowledged, and with only harmless messages in flight, do not count.
            assert_eq!(poison.connection_lost(&window(&rows[..1]), NEW), None);
            assert_eq!(poison.connection_lost(&window(&[InFlight::NodeStatus]), ONLINE), None);
            let found = poison.connection_lost(&window(&rows[..1]), ONLINE);
            assert_eq!(found, (end == 5).then_some(InFlight::Row(1)));
        }
        assert_eq!(poison.max_in_flight(100, 0, NEW), 100);
    }

    #[test]
    fn only_failures_in_a_row_count_and_delivery_clears_suspicions() {
        let mut poison = PoisonDetector::default();
        let state = InFlight::State("t".into());
        poison.connection_lost(&window(&[InFlight::Row(7), state.clone()]), ONLINE);
        for _ in 0..2 {
            for message in [InFlight::Row(7), state.clone()] {
                for _ in 0..4 {
                    let window = window(std::slice::from_ref(&message));
                    assert_eq!(poison.connection_lost(&window, ONLINE), None);
                }
            }
        }
        assert!(poison.has_single_suspect());
        poison.clear_delivered(7, false);
        poison.clear_delivered(6, true);
        assert!(poison.has_suspects());
        poison.clear_delivered(7, true);
        assert!(!poison.has_suspects());
    }

    #[test]
    fn a_suspected_state_does_not_block_rows_before_it_is_tested() {
        let mut poison = PoisonDetector::default();
        poison.connection_lost(&window(&[InFlight::Row(7), InFlight::State("t".into())]), ONLINE);
        let caught_up = Progress { has_caught_up: true, ..ONLINE };
        assert_eq!(poison.max_in_flight(100, 6, ONLINE), 1, "the row is a suspect");
        assert_eq!(poison.max_in_flight(100, 7, ONLINE), 100);
        assert!(!poison.must_test_states(7, ONLINE));
        assert_eq!(poison.max_in_flight(100, 7, caught_up), 1);
        assert!(poison.must_test_states(7, caught_up) && !poison.must_test_states(6, caught_up));
        // Poison among the rows that are not suspected is found as well.
        poison.connection_lost(&window(&[InFlight::Row(8), InFlight::Row(9)]), ONLINE);
        assert_eq!(poison.max_in_flight(100, 7, ONLINE), 1);
    }
}
