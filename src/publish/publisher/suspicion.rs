//! Which message connection after connection ends on, so that one that no broker takes does not hold up all others. Pure.
//!
//! A connection that ends without getting any further makes all that was on its way suspect: those are sent one at a time
//! from then on, and the one that stands alone at five ends in a row is found guilty.

use super::window::{Ticket, Window};

/// Connections that end on one and the same message before it is given up.
const MOST_STRIKES: u32 = 5;

/// See the module.
#[derive(Default)]
pub struct Suspicion(Option<Suspects>);

struct Suspects {
    /// Rows up to here.
    until_row: i64,
    /// States too.
    states: bool,
    /// What a connection ended on that had nothing else on its way, and how many connections in a row.
    on: Option<(Ticket, u32)>,
}

impl Suspicion {
    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is one message.
    pub fn is_on_one(&self) -> bool {
        self.0.as_ref().is_some_and(|suspects| suspects.on.is_some())
    }

    /// How many messages may be on their way, of `usual`. None before a greeting has passed: only then it is known that
    /// small ones do.
    pub fn narrow(&self, usual: usize, is_greeted: bool) -> usize {
        match &self.0 {
            Some(_) if !is_greeted => 0,
            Some(_) => 1,
            None => usual,
        }
    }

    /// A connection has ended badly with this on its way; `got_further` if it has acknowledged a row that none before it
    /// had. Gives what is guilty.
    pub fn ended(&mut self, window: &Window, is_greeted: bool, got_further: bool) -> Option<Ticket> {
        let mut on_its_way = window.tickets();
        let states = on_its_way.clone().any(|ticket| matches!(ticket, Ticket::State(_)));
        if on_its_way.clone().all(|ticket| matches!(ticket, Ticket::Errand | Ticket::Greeting)) {
            return None;
        }
        let Some(suspects) = &mut self.0 else {
            // Of rows the next one is to blame only if none was taken; states are told again to each connection.
            if states || !got_further {
                self.0 = Some(Suspects { until_row: window.last_row(), states, on: None });
            }
            return None;
        };
        // A broker that does not even take the greeting says nothing of messages.
        let (Some(only), None, true) = (on_its_way.next(), on_its_way.next(), is_greeted) else {
            return None;
        };
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

    fn on(tickets: &[Ticket]) -> Window {
        let mut window = Window::new(0);
        tickets.iter().for_each(|ticket| window.hand_over(ticket.clone()));
        window
    }

    #[test]
    fn the_one_that_stands_alone_at_five_ends_is_guilty() {
        let mut suspicion = Suspicion::default();
        let rows = [1, 2, 3].map(Ticket::Row);
        assert_eq!(suspicion.ended(&on(&rows), true, true), None);
        assert!(!suspicion.is_any(), "it got further");
        assert_eq!(suspicion.ended(&on(&rows), true, false), None);
        assert_eq!([suspicion.narrow(100, false), suspicion.narrow(100, true)], [0, 1]);
        for end in 1..=5 {
            // Ends before the greeting, and with nothing on its way, tell nothing.
            assert_eq!(suspicion.ended(&on(&rows[..1]), false, false), None);
            assert_eq!(suspicion.ended(&on(&[Ticket::Greeting]), true, false), None);
            let guilty = suspicion.ended(&on(&rows[..1]), true, false);
            assert_eq!(guilty, (end == 5).then_some(Ticket::Row(1)));
        }
        assert_eq!(suspicion.narrow(100, false), 100);
    }

    #[test]
    fn strikes_are_in_a_row_and_all_that_passes_is_cleared() {
        let mut suspicion = Suspicion::default();
        let state = Ticket::State("t".into());
        suspicion.ended(&on(&[Ticket::Row(7), state.clone()]), true, true);
        for _ in 0..2 {
            for ticket in [Ticket::Row(7), state.clone()] {
                for _ in 0..4 {
                    assert_eq!(suspicion.ended(&on(std::slice::from_ref(&ticket)), true, false), None);
                }
            }
        }
        assert!(suspicion.is_on_one());
        suspicion.clear(7, false);
        suspicion.clear(6, true);
        assert!(suspicion.is_any());
        suspicion.clear(7, true);
        assert!(!suspicion.is_any());
    }
}
