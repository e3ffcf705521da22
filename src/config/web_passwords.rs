//! The file with the passwords and tokens of the web server. It holds hashes only.
//!
//! One line each, in any order:
//!
//! ```text
//! password admin $argon2id$v=19$m=19456,t=2,p=1$...
//! password viewer $argon2id$...
//! token grafana viewer 9f86d081884c7d65...
//! ```
//!
//! A password is hashed with Argon2id, because people choose it. A token has 256 random bits, so a plain
//! SHA-256 is enough and programs need not wait for Argon2 with each request.

use crate::hex;
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;

/// Minimum length of a password, in characters.
pub const MIN_PASSWORD_CHARS: usize = 8;
/// Maximum length of a password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// Maximum number of lines.
const MAX_ENTRIES: usize = 100;
/// Maximum cost that a hash may demand, in KiB of memory. A check is made for each login.
const MAX_MEMORY_KIB: u32 = 128 << 10;

/// What somebody who is logged in may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Change settings as well.
    Admin,
}

impl Role {
    /// The role of this name.
    pub fn of_name(name: &str) -> Option<Role> {
        [Role::Viewer, Role::Admin].into_iter().find(|role| role.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Admin => "admin",
        }
    }
}

/// 256 random bits in hexadecimal, for a token or a session.
pub fn new_secret() -> String {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the kernel has random numbers");
    hex::encode(&random)
}

/// The passwords and tokens of the web server.
#[derive(Clone, Default, PartialEq)]
pub struct WebPasswords {
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq)]
enum Entry {
    /// The password of a role, as a PHC string.
    Password { role: Role, hash: String },
    /// The token of a program, as its SHA-256 in hexadecimal.
    Token { name: String, role: Role, sha256: String },
}

impl fmt::Debug for WebPasswords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebPasswords").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl WebPasswords {
    /// Reads a file's contents. Empty lines and lines that begin with `#` are ignored.
    ///
    /// Errors: the first line that is not valid, by its number.
    pub fn parse(text: &str) -> Result<WebPasswords, String> {
        let mut passwords = WebPasswords::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = parse_entry(line).map_err(|rule| format!("line {}: {rule}", index + 1))?;
            if passwords.entries.len() == MAX_ENTRIES {
                return Err(format!("line {}: there are more than {MAX_ENTRIES} entries", index + 1));
            }
            passwords.entries.push(entry);
        }
        Ok(passwords)
    }

    /// The file's contents.
    pub fn to_text(&self) -> String {
        let mut text =
            "# Written by camfire web-password. Hashes of the web server's passwords and tokens.\n"
                .to_string();
        for entry in &self.entries {
            match entry {
                Entry::Password { role, hash } => {
                    text.push_str(&format!("password {} {hash}\n", role.name()))
                }
                Entry::Token { name, role, sha256 } => {
                    text.push_str(&format!("token {name} {} {sha256}\n", role.name()));
                }
            }
        }
        text
    }

    /// Whether nobody could log in.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets the password of a role.
    ///
    /// Errors: why it cannot be used.
    pub fn set_password(&mut self, role: Role, password: &str) -> Result<(), String> {
        if password.chars().count() < MIN_PASSWORD_CHARS {
            return Err(format!("a password needs at least {MIN_PASSWORD_CHARS} characters"));
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(format!("a password has at most {MAX_PASSWORD_BYTES} bytes"));
        }
        let hash = Argon2::default().hash_password(password.as_bytes()).map_err(|error| error.to_string())?;
        self.remove_password(role);
        self.entries.push(Entry::Password { role, hash: hash.to_string() });
        Ok(())
    }

    /// Removes the password of a role. Returns false if there is none.
    pub fn remove_password(&mut self, role: Role) -> bool {
        self.remove(|entry| matches!(entry, Entry::Password { role: other, .. } if *other == role))
    }

    /// Adds the token of a program, in place of one of the same name.
    ///
    /// Errors: the name cannot be used.
    pub fn set_token(&mut self, name: &str, role: Role, token: &str) -> Result<(), String> {
        check_name(name)?;
        self.remove_token(name);
        self.entries.push(Entry::Token { name: name.to_string(), role, sha256: sha256(token) });
        Ok(())
    }

    /// Removes the token of a program. Returns false if there is none.
    pub fn remove_token(&mut self, name: &str) -> bool {
        self.remove(|entry| matches!(entry, Entry::Token { name: other, .. } if other == name))
    }

    fn remove(&mut self, is_meant: impl Fn(&Entry) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !is_meant(entry));
        self.entries.len() < before
    }

    /// The role that a password gives. None: it is wrong. Takes about as long as an inference, and 19 MiB.
    pub fn role_of_password(&self, password: &str) -> Option<Role> {
        if password.len() > MAX_PASSWORD_BYTES {
            return None;
        }
        // All are tried, so that the time does not tell which role a password is near to.
        let is_right = |hash: &str| {
            PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        };
        let roles = self.entries.iter().filter_map(|entry| match entry {
            Entry::Password { role, hash } => is_right(hash).then_some(*role),
            Entry::Token { .. } => None,
        });
        roles.max()
    }

    /// The role that a token gives. None: there is no such token.
    pub fn role_of_token(&self, token: &str) -> Option<Role> {
        let wanted = sha256(token);
        self.entries.iter().find_map(|entry| match entry {
            Entry::Token { role, sha256, .. } if *sha256 == wanted => Some(*role),
            _ => None,
        })
    }
}

fn parse_entry(line: &str) -> Result<Entry, String> {
    let role = |name: &str| Role::of_name(name).ok_or_else(|| "the role must be admin or viewer".to_string());
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["password", name, hash] => {
            let role = role(name)?;
            let parsed = PasswordHash::new(hash).map_err(|_| "the hash is not a PHC string".to_string())?;
            if parsed.algorithm.as_str() != "argon2id" {
                return Err("the hash must be one of argon2id".to_string());
            }
            let memory_kib = parsed.params.get_decimal("m").unwrap_or(u32::MAX);
            if memory_kib > MAX_MEMORY_KIB {
                return Err(format!("the hash may use at most {MAX_MEMORY_KIB} KiB of memory"));
            }
            Ok(Entry::Password { role, hash: hash.to_string() })
        }
        ["token", name, role_name, sha256] => {
            check_name(name)?;
            let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_hash {
                return Err("the hash of a token must have 64 hexadecimal digits".to_string());
            }
            Ok(Entry::Token {
                name: name.to_string(),
                role: role(role_name)?,
                sha256: sha256.to_ascii_lowercase(),
            })
        }
        // The line itself may be a password that somebody has typed here.
        _ => Err("must be 'password ROLE HASH' or 'token NAME ROLE HASH'; camfire web-password writes them"
            .to_string()),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_valid = (1..=40).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_valid {
        Ok(())
    } else {
        Err("a token's name has up to 40 letters, digits, '-', '_' and '.'".to_string())
    }
}

fn sha256(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_give_their_roles_and_survive_the_file() {
        let mut passwords = WebPasswords::default();
        passwords.set_password(Role::Admin, "correct horse").unwrap();
        passwords.set_password(Role::Viewer, "battery staple").unwrap();
        passwords.set_token("grafana", Role::Viewer, "t-123").unwrap();
        let text = passwords.to_text();
        assert!(!text.contains("horse") && !text.contains("t-123"), "{text}");
        let mut read = WebPasswords::parse(&text).unwrap();
        assert!(read == passwords);
        assert_eq!(read.role_of_password("correct horse"), Some(Role::Admin));
        assert_eq!(read.role_of_password("battery staple"), Some(Role::Viewer));
        assert_eq!(read.role_of_password("wrong"), None);
        assert_eq!(read.role_of_password(&"x".repeat(MAX_PASSWORD_BYTES + 1)), None);
        assert_eq!(read.role_of_token("t-123"), Some(Role::Viewer));
        assert_eq!(read.role_of_token("correct horse"), None);
        assert!(read.remove_token("grafana") && !read.remove_token("grafana"));
        read.set_password(Role::Admin, "another one").unwrap();
        assert_eq!(read.role_of_password("correct horse"), None, "replaced");
        assert!(read.remove_password(Role::Viewer) && !read.remove_password(Role::Viewer));
        assert_eq!(read.role_of_password("battery staple"), None, "removed");
        assert_eq!(read.role_of_password("another one"), Some(Role::Admin));
        assert!(read.set_password(Role::Admin, "short").unwrap_err().contains("8 characters"));
        assert!(read.set_token("a b", Role::Admin, "x").is_err());
        assert!(!format!("{read:?}").contains("argon2id"));
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        let problem = |text: &str| WebPasswords::parse(text).unwrap_err();
        assert!(problem("\n# comment\nmy secret password\n").starts_with("line 3: must be"));
        assert!(!problem("my secret password").contains("secret"));
        assert!(
            problem("password root $argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g").contains("role")
        );
        assert!(problem("password admin plain").contains("PHC"));
        assert!(problem("token x admin 12").contains("64 hexadecimal"));
        let costly = "password admin $argon2id$v=19$m=4000000,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";
        assert!(problem(costly).contains("KiB"), "{}", problem(costly));
        assert!(WebPasswords::parse("# nothing\n").unwrap().is_empty());
    }
}
