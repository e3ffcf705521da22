//! Limits of wrong passwords: by address, and in all, because an attacker may have many addresses.

use crate::web::connections::client;
use std::{collections::HashMap, net::IpAddr, time::Duration};

/// The time in which wrong passwords are counted.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of wrong passwords from one address in this time.
pub const MAX_BY_ADDRESS: u32 = 5;
/// Maximum number in all.
const MAX_IN_ALL: u32 = 30;
/// Maximum number of addresses that are counted. More cannot give a wrong password in one window.
const MAX_ADDRESSES: usize = MAX_IN_ALL as usize;

/// Wrong passwords in the current window.
#[derive(Default)]
pub struct Attempts {
    /// Begin of the window, on the monotonic clock.
    began: Duration,
    in_all: u32,
    by_address: HashMap<IpAddr, u32>,
}

impl Attempts {
    /// Whether an address may try a password. Errors: the time until it may.
    pub fn check(&mut self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        self.advance(now);
        let wrong = self.by_address.get(&client(address)).copied().unwrap_or_default();
        if wrong < MAX_BY_ADDRESS && self.in_all < MAX_IN_ALL {
            return Ok(());
        }
        Err((self.began + WINDOW).saturating_sub(now))
    }

    /// Counts a wrong password.
    pub fn record_wrong(&mut self, address: IpAddr, now: Duration) {
        self.advance(now);
        self.in_all += 1;
        if self.by_address.len() < MAX_ADDRESSES {
            *self.by_address.entry(client(address)).or_default() += 1;
        }
    }

    fn advance(&mut self, now: Duration) {
        if now.saturating_sub(self.began) >= WINDOW {
            *self = Attempts { began: now, ..Attempts::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_addresses_are_limited_together() {
        let mut attempts = Attempts::default();
        let address = |number: u8| IpAddr::from([10, 0, 0, number]);
        for number in 0..MAX_IN_ALL as u8 {
            assert!(attempts.check(address(number), Duration::from_secs(10)).is_ok());
            attempts.record_wrong(address(number), Duration::from_secs(10));
        }
        assert_eq!(attempts.check(address(99), Duration::from_secs(15)), Err(Duration::from_secs(45)));
        assert!(attempts.check(address(99), Duration::from_secs(60)).is_ok());
    }
}
