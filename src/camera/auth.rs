//! Answers a camera's challenge, over RTSP or HTTP, with a user and password: Basic, and Digest with MD5 or
//! SHA-256.

use super::readable;
use crate::config::Login;
use http_auth::{
    PasswordClient, PasswordParams,
    digest::{Algorithm, Qop},
    parse_challenges,
};

/// The answer to one challenge, for all requests that follow it.
pub struct Auth {
    login: Login,
    client: PasswordClient,
}

impl Auth {
    /// Creates the answer to the challenges in these `WWW-Authenticate` headers.
    ///
    /// Errors: none of them can be answered. The text names the kinds that the camera accepts, and follows
    /// "the camera accepts only".
    pub fn new(challenges: &[&str], login: &Login) -> Result<Auth, String> {
        let builder = challenges.iter().fold(PasswordClient::builder(), |b, value| b.challenges(value));
        let client = builder.build().map_err(|_| kinds(challenges))?;
        Ok(Auth { login: login.clone(), client })
    }

    /// The `Authorization` header of a request without a body.
    ///
    /// Errors: the login cannot be expressed in it. The text is a whole reason.
    pub fn header(&mut self, method: &str, url: &str) -> Result<String, String> {
        let Login { user, password } = &self.login;
        let mut parameters = PasswordParams { username: user, password, uri: url, method, body: None };
        match &mut self.client {
            PasswordClient::Digest(digest) => {
                if !(digest.qop() & Qop::Auth) {
                    // The crate expects the hash of the body here, against its own documentation.
                    parameters.body = Some(hash_of_nothing(digest.algorithm()));
                }
                let header = digest.respond(&parameters)?;
                // Without qop the crate leaves the algorithm out, from which a server concludes MD5.
                let is_md5 = digest.algorithm() == Algorithm::Md5;
                let must_name = digest.rfc2069_compat() && !is_md5;
                Ok(if must_name { header + ", algorithm=" + algorithm_name(digest) } else { header })
            }
            other => other.respond(&parameters),
        }
    }
}

/// The hash of an empty body.
fn hash_of_nothing(algorithm: Algorithm) -> &'static [u8] {
    match algorithm {
        Algorithm::Sha256 => b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        Algorithm::Sha512Trunc256 => b"c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a",
        _ => b"d41d8cd98f00b204e9800998ecf8427e",
    }
}

fn algorithm_name(digest: &http_auth::DigestClient) -> &'static str {
    match (digest.algorithm(), digest.session()) {
        (Algorithm::Sha256, false) => "SHA-256",
        (Algorithm::Sha256, true) => "SHA-256-sess",
        (Algorithm::Sha512Trunc256, false) => "SHA-512-256",
        (Algorithm::Sha512Trunc256, true) => "SHA-512-256-sess",
        (_, false) => "MD5",
        (_, true) => "MD5-sess",
    }
}

/// Whether these challenges reject only the nonce: user and password were not judged.
pub fn is_stale(challenges: &[&str]) -> bool {
    let parsed = challenges.iter().filter_map(|value| parse_challenges(value).ok()).flatten();
    let stale =
        parsed.flat_map(|challenge| challenge.params).filter(|(name, _)| name.eq_ignore_ascii_case("stale"));
    stale.into_iter().any(|(_, value)| value.to_unescaped().eq_ignore_ascii_case("true"))
}

/// The kinds of authentication in these challenges, such as `Digest with SHA-512`.
fn kinds(challenges: &[&str]) -> String {
    let mut kinds = Vec::new();
    for value in challenges {
        let Ok(parsed) = parse_challenges(value) else {
            kinds.push("an authentication that cannot be read".to_string());
            continue;
        };
        for challenge in parsed {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
                found.map(|(_, value)| readable(&value.to_unescaped(), 24))
            };
            let mut kind = readable(challenge.scheme, 24);
            if let Some(algorithm) = parameter("algorithm") {
                kind += &format!(" with {algorithm}");
            }
            if let Some(qop) = parameter("qop") {
                kind += &format!(" and qop {qop}");
            }
            kinds.push(kind);
        }
    }
    kinds.truncate(4);
    match kinds.is_empty() {
        true => "an authentication that it does not name".into(),
        false => kinds.join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login { user: "Mufasa".into(), password: "Circle of Life".into() }
    }

    fn header(challenges: &[&str]) -> String {
        Auth::new(challenges, &login()).unwrap().header("DESCRIBE", "rtsp://h/s").unwrap()
    }

    #[test]
    fn basic_and_every_digest_in_use_are_answered() {
        assert_eq!(header(&["Basic realm=\"cam\""]), "Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl");
        // The challenge of RFC 2069: no qop, no algorithm.
        let plain = header(&["Digest realm=\"cam\", nonce=\"abc\""]);
        assert!(plain.contains("response=\"4b7cf43cb6e1a4e810b5e7418ea6322f\""), "{plain}");
        assert!(!plain.contains("qop") && !plain.contains("algorithm"), "{plain}");
        let qop = header(&["Digest realm=\"cam\", nonce=\"abc\", qop=\"auth\""]);
        assert!(qop.contains("qop=auth") && qop.contains("nc=00000001") && qop.contains("cnonce="), "{qop}");
        let sha = header(&["Digest realm=\"cam\", nonce=\"abc\", algorithm=SHA-256, qop=\"auth\""]);
        assert!(sha.contains("algorithm=SHA-256"), "{sha}");
        let sha = header(&["Digest realm=\"cam\", nonce=\"abc\", algorithm=SHA-256"]);
        assert!(sha.ends_with(", algorithm=SHA-256"), "{sha}");
        let body = header(&["Digest realm=\"cam\", nonce=\"abc\", qop=\"auth-int\""]);
        assert!(body.contains("qop=auth-int"), "{body}");
        // Digest is preferred, and an unknown kind before it is passed over.
        let both = header(&[
            "Basic realm=\"cam\"",
            "Digest realm=\"cam\", nonce=\"a\", algorithm=MD4",
            "Digest realm=\"cam\", nonce=\"abc\"",
        ]);
        assert!(both.starts_with("Digest "), "{both}");
    }

    #[test]
    fn a_nonce_is_counted() {
        let mut auth = Auth::new(&["Digest realm=\"cam\", nonce=\"abc\", qop=\"auth\""], &login()).unwrap();
        auth.header("OPTIONS", "rtsp://h/s").unwrap();
        assert!(auth.header("DESCRIBE", "rtsp://h/s").unwrap().contains("nc=00000002"));
    }

    #[test]
    fn what_cannot_be_answered_is_named() {
        let kinds = |challenges: &[&str]| Auth::new(challenges, &login()).err().unwrap();
        assert_eq!(
            kinds(&["Digest realm=\"cam\", nonce=\"a\", algorithm=SHA-1, qop=\"auth\"", "Negotiate"]),
            "Digest with SHA-1 and qop auth or Negotiate"
        );
        assert_eq!(
            kinds(&["Digest realm=\"c\", nonce=\"a\", qop=\"auth-conf\""]),
            "Digest and qop auth-conf"
        );
        assert_eq!(kinds(&[]), "an authentication that it does not name");
        assert_eq!(kinds(&["\"\""]), "an authentication that cannot be read");
    }

    #[test]
    fn a_stale_nonce_is_told_from_a_wrong_password() {
        assert!(is_stale(&["Digest realm=\"cam\", nonce=\"b\", stale=TRUE"]));
        assert!(is_stale(&["Digest realm=\"cam\", nonce=\"b\", stale=\"true\""]));
        assert!(!is_stale(&["Digest realm=\"cam\", nonce=\"b\", stale=false", "Basic realm=\"cam\""]));
    }
}
