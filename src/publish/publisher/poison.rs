//! Which message connection after connection ends on, so that one that no broker takes does not hold up all others. Pure.
//!
//! A connection that ends without getting any further makes all that was on its way suspect: those are sent one at a time
//! from then on, and the one that stands alone at five ends in a row is found guilty.

use super::window::{InFlight, Window};

/// Connections that end on one and the same message before it is given up.
const MOST_STRIKES: u32 = 5;

/// See the module.
#[derive(Default)]
pub struct PoisonDetector(Option<Suspects>);

struct Suspects {
    /// Rows up to here.
    until_row: i64,
    /// States too.
    states: bool,
    /// What a connection ended on that had nothing else on its way, and how many connections in a row.
    on: Option<(InFlight, u32)>,
}

/// How far a connection has come, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Its greeting was acknowledged: small messages pass.
    pub is_greeted: bool,
    /// It has acknowledged a row that none before it had.
    pub got_further: bool,
    /// It had handed over all rows once, and told states from then on.
    pub has_caught_up: bool,
}

impl PoisonDetector {
    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is one message.
    pub fn is_on_one(&self) -> bool {
        self.0.as_ref().is_some_and(|suspects| suspects.on.is_some())
    }

    /// Whether states are to be told before any further row, one by one: their turn has come.
    pub fn is_on_states(&self, cursor: i64, progress: Progress) -> bool {
        let is_turn =
            |suspects: &Suspects| suspects.states && cursor >= suspects.until_row && progress.has_caught_up;
        self.0.as_ref().is_some_and(is_turn)
    }

    /// How many messages may be on their way, of `usual`, with everything up to `cursor` acknowledged. None before the
    /// greeting has passed: only then it is known that small ones do.
    pub fn narrow(&self, usual: usize, cursor: i64, progress: Progress) -> usize {
        let Some(suspects) = &self.0 else { return usual };
        // Rows behind the suspects need not wait until states get their turn.
        if cursor >= suspects.until_row && !self.is_on_states(cursor, progress) {
            usual
        } else {
            usize::from(progress.is_greeted)
        }
    }

    /// A connection has ended badly with this on its way. Gives what is guilty.
    pub fn ended(&mut self, window: &Window, progress: Progress) -> Option<InFlight> {
        let mut on_its_way = window.tickets();
        let states = on_its_way.clone().any(|ticket| matches!(ticket, InFlight::State(_)));
        if on_its_way.clone().all(InFlight::is_harmless) {
            return None;
        }
        let Some(suspects) = &mut self.0 else {
            // Of rows the next one is to blame only if none was taken; states are told again to each connection.
            if states || !progress.got_further {
                self.0 = Some(Suspects { until_row: window.last_row(), states, on: None });
            }
            return None;
        };
        let (Some(only), None) = (on_its_way.next(), on_its_way.next()) else {
            // More are suspect, where it was not one at a time.
            if !progress.got_further {
                suspects.until_row = suspects.until_row.max(window.last_row());
            }
            suspects.states |= states;
            return None;
        };
        // A broker that does not even take the greeting says nothing of messages.
        if !progress.is_greeted {
            return None;
        }
        let strikes = match &suspects.on {
            Some((ticket, strikes)) if ticket == only => strikes + 1,
            _ => 1,
        };
        suspects.on = Some((only.clone(), strikes));
        if strikes < MOST_STRIKES {
            return None;
        }
        self.0 = None;
        Some(only.clone())
    }

    /// Everything up to `cursor` has passed, and `states` if all of those have: nothing is suspected any more once all of
    /// the suspects are among that.
    pub fn clear(&mut self, cursor: i64, states: bool) {
        self.0.take_if(|suspects| cursor >= suspects.until_row && (states || !suspects.states));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(tickets: &[InFlight]) -> Window {
        let mut window = Window::new(0);
        tickets.iter().for_each(|ticket| window.hand_over(ticket.clone()));
        window
    }

    const FRESH: Progress = Progress { is_greeted: false, got_further: false, has_caught_up: false };
    const GREETED: Progress = Progress { is_greeted: true, ..FRESH };

    #[test]
    fn the_one_that_stands_alone_at_five_ends_is_guilty() {
        let mut poison = PoisonDetector::default();
        let rows = [1, 2, 3].map(InFlight::Row);
        assert_eq!(poison.ended(&on(&rows), Progress { got_further: true, ..GREETED }), None);
        assert!(!poison.is_any(), "it got further");
        assert_eq!(poison.ended(&on(&rows), GREETED), None);
        assert_eq!([FRESH, GREETED].map(|progress| poison.narrow(100, 0, progress)), [0, 1]);
        for end in 1..=5 {
            // Ends before the greeting, and with nothing on its way, tell nothing.
            assert_eq!(poison.ended(&on(&rows[..1]), FRESH), None);
            assert_eq!(poison.ended(&on(&[InFlight::Greeting]), GREETED), None);
            let guilty = poison.ended(&on(&rows[..1]), GREETED);
            assert_eq!(guilty, (end == 5).then_some(InFlight::Row(1)));
        }
        assert_eq!(poison.narrow(100, 0, FRESH), 100);
    }

    #[test]
    fn strikes_are_in_a_row_and_all_that_passes_is_cleared() {
        let mut poison = PoisonDetector::default();
        let state = InFlight::State("t".into());
        poison.ended(&on(&[InFlight::Row(7), state.clone()]), GREETED);
        for _ in 0..2 {
            for ticket in [InFlight::Row(7), state.clone()] {
                for _ in 0..4 {
                    assert_eq!(poison.ended(&on(std::slice::from_ref(&ticket)), GREETED), None);
                }
            }
        }
        assert!(poison.is_on_one());
        poison.clear(7, false);
        poison.clear(6, true);
        assert!(poison.is_any());
        poison.clear(7, true);
        assert!(!poison.is_any());
    }

    #[test]
    fn a_suspected_state_does_not_hold_up_rows_until_its_turn() {
        let mut poison = PoisonDetector::default();
        poison.ended(&on(&[InFlight::Row(7), InFlight::State("t".into())]), GREETED);
        let caught_up = Progress { has_caught_up: true, ..GREETED };
        assert_eq!(poison.narrow(100, 6, GREETED), 1, "the row may be it");
        assert_eq!(poison.narrow(100, 7, GREETED), 100);
        assert!(!poison.is_on_states(7, GREETED));
        assert_eq!(poison.narrow(100, 7, caught_up), 1);
        assert!(poison.is_on_states(7, caught_up) && !poison.is_on_states(6, caught_up));
        // A poisonous row among those that were not suspected is found as well.
        poison.ended(&on(&[InFlight::Row(8), InFlight::Row(9)]), GREETED);
        assert_eq!(poison.narrow(100, 7, GREETED), 1);
    }
}
