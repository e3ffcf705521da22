//! Who may see the page and use its API.
//!
//! On a loopback address without passwords everybody may do everything, as every user of this machine could
//! without the page. Otherwise a session ([`sessions`]), which begins with a password, or a token is
//! needed. Wrong passwords are limited by address and in all ([`attempts`]). Requests that change something
//! must come from the page itself ([`origin`]).

mod attempts;
mod origin;
mod sessions;

use self::{attempts::Attempts, sessions::Sessions};
use super::api::response::ApiError;
use crate::{
    clock::Clock,
    config::web_passwords::{Role, WebPasswords},
    sync::lock,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};
use tokio::{sync::Semaphore, task};

/// Name of the cookie. The prefix would require TLS.
const COOKIE: &str = "camfire-session";
/// Number of passwords that are checked or wait for it. Each check takes 19 MiB and some time.
const MAX_CHECKS: usize = 8;

/// The address of a connection's client.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Decides who may do what.
pub struct Access {
    passwords: Option<WebPasswords>,
    /// Whether only this machine can connect.
    is_local: bool,
    sessions: Mutex<Sessions>,
    attempts: Mutex<Attempts>,
    /// Passwords are checked one after the other.
    check: Semaphore,
    waiting: Semaphore,
    clock: Arc<dyn Clock>,
}

impl Access {
    /// Creates the rules of a server. `is_local`: it listens on a loopback address.
    pub fn new(passwords: Option<WebPasswords>, is_local: bool, clock: Arc<dyn Clock>) -> Access {
        Access {
            passwords,
            is_local,
            sessions: Mutex::default(),
            attempts: Mutex::default(),
            check: Semaphore::new(1),
            waiting: Semaphore::new(MAX_CHECKS),
            clock,
        }
    }

    /// Whether there is anybody who may use the page.
    pub fn serves_page(&self) -> bool {
        self.passwords.is_some() || self.is_local
    }

    /// Whether one must log in.
    pub fn requires_password(&self) -> bool {
        self.passwords.is_some() || !self.is_local
    }

    /// What the sender of a request may do. None: nothing.
    pub fn role(&self, headers: &HeaderMap) -> Option<Role> {
        let Some(passwords) = &self.passwords else { return self.is_local.then_some(Role::Admin) };
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(token) = token.and_then(|value| value.strip_prefix("Bearer ")) {
            return passwords.role_of_token(token.trim());
        }
        cookies(headers).find_map(|id| lock(&self.sessions).role(id, self.clock.monotonic()))
    }

    /// Begins a session. Returns the role and the value for `Set-Cookie`.
    pub async fn log_in(&self, peer: IpAddr, password: String) -> Result<(Role, HeaderValue), ApiError> {
        let Some(passwords) = self.passwords.clone() else {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "no password is set: camfire web-password sets one",
            ));
        };
        let too_many = |seconds: u64| {
            ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("too many wrong passwords: try again in {seconds} s"),
            )
            .retry_after(seconds)
        };
        let Ok(_place) = self.waiting.try_acquire() else { return Err(too_many(1)) };
        let Ok(_turn) = self.check.acquire().await else { return Err(too_many(1)) };
        // After the wait, so that tries that wait together are counted one by one.
        if let Err(wait) = lock(&self.attempts).check(peer, self.clock.monotonic()) {
            return Err(too_many(wait.as_secs().max(1)));
        }
        let role = task::spawn_blocking(move || passwords.role_of_password(&password)).await.ok().flatten();
        let now = self.clock.monotonic();
        let Some(role) = role else {
            lock(&self.attempts).record_wrong(peer, now);
            tracing::warn!(address = %peer, "Somebody gave a wrong password to the web server.");
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "the password is wrong"));
        };
        let id = lock(&self.sessions).begin(role, now);
        Ok((role, set_cookie(&id, sessions::MAX_AGE.as_secs())))
    }

    /// Ends the session of a request. Returns the value for `Set-Cookie`.
    pub fn log_out(&self, headers: &HeaderMap) -> HeaderValue {
        for id in cookies(headers) {
            lock(&self.sessions).end(id);
        }
        set_cookie("", 0)
    }
}

fn set_cookie(id: &str, max_age_s: u64) -> HeaderValue {
    let text = format!("{COOKIE}={id}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict");
    HeaderValue::from_str(&text).expect("ids are hexadecimal")
}

/// The values of the session cookie. There may be several, of other servers on this machine.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';'));
    pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Passes on requests of those who may make them. Reading needs a viewer, everything else an admin.
pub async fn require_role(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let needed = if is_reading(request.method()) { Role::Viewer } else { Role::Admin };
    match access.role(request.headers()) {
        Some(role) if role >= needed => next.run(request).await,
        Some(_) => ApiError::new(StatusCode::FORBIDDEN, "only an admin may do this").into_response(),
        None if access.passwords.is_none() => {
            let text = "no password is set, so only metrics and the health check are served here: run camfire \
                        web-password and set web.password_file";
            ApiError::new(StatusCode::FORBIDDEN, text).into_response()
        }
        None => ApiError::new(StatusCode::UNAUTHORIZED, "log in first").into_response(),
    }
}

/// Refuses requests that change something and that another site has caused.
pub async fn require_same_origin(request: Request, next: Next) -> Response {
    match is_reading(request.method()) || origin::is_same_origin(request.headers()) {
        true => next.run(request).await,
        false => ApiError::new(StatusCode::FORBIDDEN, "the request comes from another site").into_response(),
    }
}

fn is_reading(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use std::{net::Ipv4Addr, time::Duration};

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn access() -> (Access, Arc<SimulatedClock>) {
        let clock = Arc::new(SimulatedClock::new());
        let mut passwords = WebPasswords::default();
        passwords.set_password(Role::Viewer, "for viewers").unwrap();
        passwords.set_token("grafana", Role::Viewer, "t-1").unwrap();
        (Access::new(Some(passwords), false, clock.clone()), clock)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_session_begins_with_a_password_and_ends_with_logging_out() {
        let (access, clock) = access();
        assert!(access.requires_password() && access.role(&HeaderMap::new()).is_none());
        let (role, cookie) = run(access.log_in(PEER, "for viewers".into())).unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(role == Role::Viewer && cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
        let id = cookie.split(';').next().unwrap();
        let with = headers(header::COOKIE, &format!("other=1; {id}"));
        assert_eq!(access.role(&with), Some(Role::Viewer));
        clock.advance(sessions::MAX_AGE + Duration::from_secs(1));
        assert_eq!(access.role(&with), None, "too old");
        let (_, cookie) = run(access.log_in(PEER, "for viewers".into())).unwrap();
        let with = headers(header::COOKIE, cookie.to_str().unwrap().split(';').next().unwrap());
        assert_eq!(access.role(&with), Some(Role::Viewer));
        access.log_out(&with);
        assert_eq!(access.role(&with), None);
    }

    #[test]
    fn a_token_needs_no_session() {
        let (access, _) = access();
        assert_eq!(access.role(&headers(header::AUTHORIZATION, "Bearer t-1")), Some(Role::Viewer));
        assert_eq!(access.role(&headers(header::AUTHORIZATION, "Bearer t-2")), None);
        assert_eq!(access.role(&headers(header::AUTHORIZATION, "Basic dDp0")), None);
    }

    #[test]
    fn without_passwords_only_this_machine_may_do_anything() {
        let clock: Arc<SimulatedClock> = Arc::new(SimulatedClock::new());
        let local = Access::new(None, true, clock.clone());
        assert!(local.role(&HeaderMap::new()) == Some(Role::Admin) && !local.requires_password());
        let remote = Access::new(None, false, clock);
        assert!(remote.role(&HeaderMap::new()).is_none() && remote.requires_password());
        assert!(run(remote.log_in(PEER, "x".into())).is_err());
    }

    #[test]
    fn wrong_passwords_are_limited() {
        let (access, clock) = access();
        let try_one = |password: &str| run(access.log_in(PEER, password.into())).map(|(role, _)| role);
        let status = |refusal: ApiError| refusal.into_response().status();
        for _ in 0..attempts::MAX_BY_ADDRESS {
            assert_eq!(status(try_one("wrong").unwrap_err()), StatusCode::UNAUTHORIZED);
        }
        assert_eq!(
            status(try_one("for viewers").unwrap_err()),
            StatusCode::TOO_MANY_REQUESTS,
            "not even this"
        );
        clock.advance(attempts::WINDOW);
        assert_eq!(try_one("for viewers").unwrap(), Role::Viewer);
    }
}
