//! The story of brokers that are away: what is told of it, once and not at every attempt, and how long to wait before the
//! next one. Pure.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// From pause to pause: the next attempt comes when the reconnect has lasted 1.6 times as long. Two would be too lazy for a
/// cluster that needs ten seconds to agree on who leads it.
const GROWTH: f64 = 1.6;
/// For a broker that says no: it will say no again, until a person changes something.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// Before the next of several brokers.
const NEXT_PAUSE: Duration = Duration::from_millis(50);
/// How much shorter a pause may be: a thousand boards must not come back in step.
const JITTER: f64 = 0.3;
/// A connection that lasts so long is a good one.
const LASTING: Duration = Duration::from_secs(10);
/// So many that do not last are probably the work of another client with the same id: a broker ends the older of two.
const MOST_SHORT_LIVED: u32 = 3;

/// See the module.
pub struct Reconnect {
    brokers: usize,
    client_id: String,
    random: fastrand::Rng,
    told: Option<String>,
    /// In a row, without a connection that lasted.
    failures: u32,
    /// The broker that is tried now.
    current: usize,
    /// When the connection came up, while it is.
    up_since: Option<Duration>,
    /// Connections in a row that did not last.
    short_lived: u32,
    /// The last failure was the end of one of those.
    ended_soon: bool,
}

impl Reconnect {
    /// None yet, with so many brokers to try.
    pub fn new(brokers: usize, client_id: &str, seed: u64) -> Reconnect {
        Reconnect {
            brokers,
            client_id: client_id.to_string(),
            random: fastrand::Rng::with_seed(seed),
            told: None,
            failures: 0,
            current: 0,
            up_since: None,
            short_lived: 0,
            ended_soon: false,
        }
    }

    /// Which broker to try.
    pub fn broker(&self) -> usize {
        self.current
    }

    /// Says what is wrong with `broker`, if that is news.
    pub fn tell(&mut self, broker: &str, why: &str) {
        let another = format!("{why}; does another client have the id {:?}?", self.client_id);
        let why = if self.ended_soon && self.short_lived >= MOST_SHORT_LIVED { &another } else { why };
        let story = format!("{broker}: {why}");
        if self.told.as_deref() != Some(&story) && !(self.brokers > 1 && self.told.is_some()) {
            tracing::warn!(broker, error = why, "Broker is away; seeing goes on, trying again.");
            self.told = Some(story);
        }
    }

    /// Whether a connection of which nothing was said, after several that did not last, has lasted by `now`: then all is
    /// well and forgotten.
    pub fn is_over(&mut self, now: Duration) -> bool {
        let lasts = self.up_since.is_some_and(|since| now.saturating_sub(since) >= LASTING);
        if !lasts || self.failures == 0 {
            return false;
        }
        let untold = self.short_lived >= MOST_SHORT_LIVED;
        self.forget();
        untold
    }

    /// The connection is up at `now`; true if that is news.
    pub fn up(&mut self, now: Duration) -> bool {
        self.up_since = Some(now);
        self.short_lived < MOST_SHORT_LIVED
    }

    /// How long to wait after a failure at `now`, before the next of the brokers is tried.
    pub fn next_pause(&mut self, refused: bool, now: Duration) -> Duration {
        self.ended_soon = false;
        if let Some(since) = self.up_since.take() {
            if now.saturating_sub(since) >= LASTING {
                self.forget();
                self.told = None;
            } else {
                (self.short_lived, self.ended_soon) = (self.short_lived + 1, true);
                // It was told that the broker is back, so it has to be told that it is away again.
                if self.short_lived < MOST_SHORT_LIVED {
                    self.told = None;
                }
            }
        }
        self.current = (self.current + 1) % self.brokers;
        self.failures += 1;
        // The others may be well: all are asked before any pause.
        let rounds = (self.failures as usize - 1) / self.brokers;
        if !(self.failures as usize).is_multiple_of(self.brokers) {
            return NEXT_PAUSE;
        }
        let pause = match refused {
            true => REFUSED_PAUSE,
            false => FIRST_PAUSE.mul_f64(GROWTH.powi(rounds.min(20) as i32)).min(LONGEST_PAUSE),
        };
        pause.mul_f64(1.0 - JITTER * self.random.f64())
    }

    fn forget(&mut self) {
        (self.failures, self.short_lived) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_about(pause: Duration, longest_ms: u64) -> bool {
        let longest = Duration::from_millis(longest_ms);
        (longest.mul_f64(1.0 - JITTER)..=longest + Duration::from_millis(1)).contains(&pause)
    }

    #[test]
    fn connections_that_do_not_last_are_one_story_with_longer_and_longer_pauses() {
        let mut reconnect = Reconnect::new(1, "c", 1);
        let mut now = Duration::from_secs(100);
        let mut news = 0;
        for longest_ms in [500, 800, 1280, 2048, 3277, 5243, 8389, 13422, 21475, 30000, 30000] {
            news += u32::from(reconnect.up(now));
            now += Duration::from_secs(1);
            assert!(is_about(reconnect.next_pause(false, now), longest_ms));
        }
        assert_eq!(news, MOST_SHORT_LIVED);
        // The next one lasts, which is told once it has.
        assert!(!reconnect.up(now) && !reconnect.is_over(now + Duration::from_secs(9)));
        assert!(reconnect.is_over(now + LASTING) && !reconnect.is_over(now + 2 * LASTING));
        assert!(is_about(reconnect.next_pause(false, now + 3 * LASTING), 500));
    }

    #[test]
    fn all_brokers_are_asked_before_a_pause() {
        let mut reconnect = Reconnect::new(3, "c", 1);
        let now = Duration::ZERO;
        let mut asked = Vec::new();
        for _ in 0..2 {
            for last in [false, false, true] {
                asked.push(reconnect.broker());
                let pause = reconnect.next_pause(false, now);
                assert_eq!(pause > NEXT_PAUSE, last);
            }
        }
        assert_eq!(asked, [0, 1, 2, 0, 1, 2]);
        for _ in 0..2 {
            reconnect.next_pause(true, now);
        }
        assert!(is_about(reconnect.next_pause(true, now), 30_000), "refused");
    }
}
