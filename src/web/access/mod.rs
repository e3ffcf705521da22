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
use super::{
    api::response::ApiError,
    forwarded::{self, Client},
};
use crate::{
    clock::Clock,
    config::web_passwords::{Role, WebPasswords},
    sync::lock,
};
use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::{Arc, Mutex};
use tokio::{sync::Semaphore, task};

/// Name of the cookie.
const COOKIE: &str = "camfire-session";
/// Name of the cookie with https. Because of the prefix, browsers take it only from this very host by https.
const SECURE_COOKIE: &str = "__Host-camfire-session";
/// Number of passwords that are checked or wait for it. Each check takes 19 MiB and some time.
const MAX_CHECKS: usize = 8;

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
    pub fn role(&self, client: Client, headers: &HeaderMap) -> Option<Role> {
        let Some(passwords) = &self.passwords else {
            let is_local = self.is_local && self.unnamed_proxy(headers).is_none();
            return is_local.then_some(Role::Admin);
        };
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(token) = token.and_then(|value| value.strip_prefix("Bearer ")) {
            return passwords.role_of_token(token.trim());
        }
        cookies(client, headers).find_map(|id| lock(&self.sessions).role(id, self.clock.monotonic()))
    }

    /// Why a request is refused that came through a proxy although nobody must log in: for this server,
    /// everyone behind the proxy is a user of this machine.
    fn unnamed_proxy(&self, headers: &HeaderMap) -> Option<String> {
        let header = forwarded::added_by_proxy(headers).filter(|_| self.passwords.is_none())?;
        Some(format!(
            "this request came through a proxy (it has the header {header}), and no password is set, so everyone \
             behind the proxy would be an admin: run camfire web-password, set web.password_file, and name the \
             proxy in web.trusted_proxies"
        ))
    }

    /// Begins a session. Returns the role and the value for `Set-Cookie`.
    pub async fn log_in(&self, client: Client, password: String) -> Result<(Role, HeaderValue), ApiError> {
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
        if let Err(wait) = lock(&self.attempts).check(client.address, self.clock.monotonic()) {
            return Err(too_many(wait.as_secs().max(1)));
        }
        let role = task::spawn_blocking(move || passwords.role_of_password(&password)).await.ok().flatten();
        let now = self.clock.monotonic();
        let Some(role) = role else {
            lock(&self.attempts).record_wrong(client.address, now);
            tracing::warn!(address = %client.address, "Somebody gave a wrong password to the web server.");
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "the password is wrong"));
        };
        let id = lock(&self.sessions).begin(role, now);
        Ok((role, set_cookie(client, &id, sessions::MAX_AGE.as_secs())))
    }

    /// Ends the session of a request. Returns the value for `Set-Cookie`.
    pub fn log_out(&self, client: Client, headers: &HeaderMap) -> HeaderValue {
        for id in cookies(client, headers) {
            lock(&self.sessions).end(id);
        }
        set_cookie(client, "", 0)
    }
}

fn cookie_name(client: Client) -> &'static str {
    if client.is_secure { SECURE_COOKIE } else { COOKIE }
}

fn set_cookie(client: Client, id: &str, max_age_s: u64) -> HeaderValue {
    let (name, secure) = (cookie_name(client), if client.is_secure { "; Secure" } else { "" });
    let text = format!("{name}={id}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).expect("ids are hexadecimal")
}

/// The values of the session cookie. There may be several, of other servers on this machine.
fn cookies(client: Client, headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';'));
    pairs.filter_map(move |pair| pair.trim().strip_prefix(cookie_name(client))?.strip_prefix('='))
}

/// Passes on requests of those who may make them. Reading needs a viewer, everything else an admin.
pub async fn require_role(
    State(access): State<Arc<Access>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    let needed = if is_reading(request.method()) { Role::Viewer } else { Role::Admin };
    match access.role(client, request.headers()) {
        Some(role) if role >= needed => next.run(request).await,
        Some(_) => ApiError::new(StatusCode::FORBIDDEN, "only an admin may do this").into_response(),
        None if access.passwords.is_none() => {
            let text = access.unnamed_proxy(request.headers()).unwrap_or_else(|| {
                "no password is set, so only metrics and the health check are served here: run camfire \
                 web-password and set web.password_file"
                    .to_string()
            });
            ApiError::new(StatusCode::FORBIDDEN, text).into_response()
        }
        None => ApiError::new(StatusCode::UNAUTHORIZED, "log in first").into_response(),
    }
}

/// Passes on requests for the page, unless they came through a proxy and nobody must log in.
pub async fn refuse_unnamed_proxy(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    match access.unnamed_proxy(request.headers()) {
        Some(text) => (StatusCode::FORBIDDEN, text + "\n").into_response(),
        None => next.run(request).await,
    }
}

/// Refuses requests that change something and that another site has caused.
pub async fn require_same_origin(
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    match is_reading(request.method()) || origin::is_same_origin(request.headers(), client.is_secure) {
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
    use std::{
        net::{IpAddr, Ipv4Addr},
        time::Duration,
    };

    const CLIENT: Client = Client { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), is_secure: false };

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
        assert!(access.requires_password() && access.role(CLIENT, &HeaderMap::new()).is_none());
        let (role, cookie) = run(access.log_in(CLIENT, "for viewers".into())).unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(role == Role::Viewer && cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
        let id = cookie.split(';').next().unwrap();
        let with = headers(header::COOKIE, &format!("other=1; {id}"));
        assert_eq!(access.role(CLIENT, &with), Some(Role::Viewer));
        clock.advance(sessions::MAX_AGE + Duration::from_secs(1));
        assert_eq!(access.role(CLIENT, &with), None, "too old");
        let (_, cookie) = run(access.log_in(CLIENT, "for viewers".into())).unwrap();
        let with = headers(header::COOKIE, cookie.to_str().unwrap().split(';').next().unwrap());
        assert_eq!(access.role(CLIENT, &with), Some(Role::Viewer));
        access.log_out(CLIENT, &with);
        assert_eq!(access.role(CLIENT, &with), None);
    }

    #[test]
    fn a_token_needs_no_session() {
        let (access, _) = access();
        assert_eq!(access.role(CLIENT, &headers(header::AUTHORIZATION, "Bearer t-1")), Some(Role::Viewer));
        assert_eq!(access.role(CLIENT, &headers(header::AUTHORIZATION, "Bearer t-2")), None);
        assert_eq!(access.role(CLIENT, &headers(header::AUTHORIZATION, "Basic dDp0")), None);
    }

    #[test]
    fn without_passwords_only_this_machine_may_do_anything() {
        let clock: Arc<SimulatedClock> = Arc::new(SimulatedClock::new());
        let local = Access::new(None, true, clock.clone());
        assert!(local.role(CLIENT, &HeaderMap::new()) == Some(Role::Admin) && !local.requires_password());
        let remote = Access::new(None, false, clock);
        assert!(remote.role(CLIENT, &HeaderMap::new()).is_none() && remote.requires_password());
        assert!(run(remote.log_in(CLIENT, "x".into())).is_err());
    }

    #[test]
    fn the_cookie_of_https_is_another_one() {
        let (access, _) = access();
        let secure = Client { is_secure: true, ..CLIENT };
        let cookie = |client| {
            let (_, cookie) = run(access.log_in(client, "for viewers".into())).unwrap();
            cookie.to_str().unwrap().to_string()
        };
        let (plain, encrypted) = (cookie(CLIENT), cookie(secure));
        assert!(plain.starts_with("camfire-session=") && !plain.contains("Secure"), "{plain}");
        assert!(encrypted.starts_with("__Host-camfire-session=") && encrypted.ends_with("; Secure"));
        let with = |cookie: &str| headers(header::COOKIE, cookie.split(';').next().unwrap());
        assert_eq!(access.role(secure, &with(&encrypted)), Some(Role::Viewer));
        assert_eq!(access.role(secure, &with(&plain)), None, "it may have been seen or set on the way");
        assert_eq!(access.role(CLIENT, &with(&encrypted)), None);
    }

    #[test]
    fn without_passwords_nobody_comes_through_a_proxy() {
        let local = Access::new(None, true, Arc::new(SimulatedClock::new()));
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via"] {
            let with = headers(header::HeaderName::from_static(name), "x");
            assert!(local.role(CLIENT, &with).is_none(), "{name}");
            assert!(local.unnamed_proxy(&with).unwrap().contains(name));
        }
        let (guarded, _) = access();
        let with = headers(header::VIA, "x");
        assert!(guarded.unnamed_proxy(&with).is_none());
    }

    #[test]
    fn wrong_passwords_are_limited() {
        let (access, clock) = access();
        let try_one = |password: &str| run(access.log_in(CLIENT, password.into())).map(|(role, _)| role);
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
