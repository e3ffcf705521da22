//! The sessions of those who have logged in. They are in memory: a restart ends them.

use crate::config::web_passwords::{Role, new_secret};
use std::{collections::HashMap, time::Duration};

/// A session ends if it is not used for this time.
pub const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Maximum number of sessions. Beyond it the one that was not used for longest ends.
const MAX_SESSIONS: usize = 200;

/// All sessions by their ids.
#[derive(Default)]
pub struct Sessions(HashMap<String, Session>);

struct Session {
    role: Role,
    /// On the monotonic clock.
    used: Duration,
}

impl Sessions {
    /// Begins a session. Returns its id, which nobody can guess.
    pub fn begin(&mut self, role: Role, now: Duration) -> String {
        self.0.retain(|_, session| now.saturating_sub(session.used) < MAX_AGE);
        if self.0.len() >= MAX_SESSIONS {
            let oldest = self.0.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone());
            oldest.map(|id| self.0.remove(&id));
        }
        let id = new_secret();
        self.0.insert(id.clone(), Session { role, used: now });
        id
    }

    /// The role of a session. None: there is none of this id, or it is too old.
    pub fn role(&mut self, id: &str, now: Duration) -> Option<Role> {
        let session = self.0.get_mut(id).filter(|session| now.saturating_sub(session.used) < MAX_AGE)?;
        session.used = now;
        Some(session.role)
    }

    /// Ends a session.
    pub fn end(&mut self, id: &str) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_sessions_is_limited() {
        let mut sessions = Sessions::default();
        let at = Duration::from_secs;
        let first = sessions.begin(Role::Admin, at(0));
        let second = sessions.begin(Role::Viewer, at(1));
        assert_ne!(first, second);
        assert_eq!(sessions.role(&first, at(2)), Some(Role::Admin));
        for second in 3..3 + MAX_SESSIONS as u64 - 1 {
            sessions.begin(Role::Viewer, at(second));
        }
        assert_eq!(sessions.role(&second, at(500)), None, "not used for longest");
        assert_eq!(sessions.role(&first, at(500)), Some(Role::Admin));
        assert!(sessions.0.len() <= MAX_SESSIONS);
        assert_eq!(sessions.role("", at(500)), None);
    }
}
