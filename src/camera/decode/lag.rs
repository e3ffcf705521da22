//! Detects that frames reach the decoder later than the delay of the stream itself explains.

use std::time::Duration;

/// How long the least lag is remembered. A lag that never gets smaller comes from the network path, not from
/// decoding.
const MEMORY: Duration = Duration::from_secs(30);

/// Tracks the least lag of the last 15 to 30 seconds of stream time.
#[derive(Debug)]
pub(super) struct LagMonitor {
    /// The least lag of the current and of the previous period of half of [`MEMORY`].
    min_lag: [Duration; 2],
    /// When the current period began.
    period_start: Option<Duration>,
}

impl LagMonitor {
    /// Creates a monitor that has seen no frames.
    pub(super) fn new() -> LagMonitor {
        LagMonitor { min_lag: [Duration::MAX; 2], period_start: None }
    }

    /// Adds the lag of a frame of stream time `at`. Returns how much it exceeds the least lag.
    pub(super) fn excess(&mut self, at: Duration, lag: Duration) -> Duration {
        let period_start = *self.period_start.get_or_insert(at);
        if at.saturating_sub(period_start) > MEMORY / 2 || at < period_start {
            self.min_lag = [lag, self.min_lag[0]];
            self.period_start = Some(at);
        }
        self.min_lag[0] = self.min_lag[0].min(lag);
        lag - self.min_lag[0].min(self.min_lag[1])
    }
}
