//! Addresses of cameras: the syntax and meaning of `source = "..."`.
//!
//! Only the syntax is checked. Whether the device, the recording or the host exists is checked when the
//! camera is opened.

use super::{suggest, validators};
use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// Pattern of `test://` alone; videotestsrc's own default.
const TEST_PATTERN: &str = "smpte";

const SCHEMES: [&str; 10] =
    ["rtsp", "rtsps", "http", "https", "v4l2", "libcamera", "csi", "file", "test", "custom"];

/// All schemes, for error texts.
pub(super) const SCHEME_LIST: &str =
    "rtsp://, rtsps://, http://, https://, v4l2://, libcamera://, csi://, file:// or test://";

/// A parsed address.
#[derive(Debug, PartialEq)]
pub(super) enum Address {
    /// `url` is without credentials; those in `login` are percent-decoded.
    Rtsp {
        url: String,
        login: Option<UrlLogin>,
    },
    Http {
        url: String,
        login: Option<UrlLogin>,
    },
    V4l2(PathBuf),
    Libcamera(Option<String>),
    Csi(u32),
    File(PathBuf),
    Test {
        pattern: String,
    },
    Custom,
}

/// `user[:password]@` of a URL.
#[derive(PartialEq)]
pub(super) struct UrlLogin {
    pub(super) user: String,
    pub(super) password: Option<String>,
}

impl std::fmt::Debug for UrlLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UrlLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Checks the syntax of an address.
pub(super) fn validate(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

/// Parses an address.
///
/// Errors: the rule that it breaks.
pub(super) fn parse(text: &str) -> Result<Address, String> {
    if text == "custom" {
        return Ok(Address::Custom);
    }
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters".into());
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(unknown_scheme(text));
    };
    match scheme.to_ascii_lowercase().as_str() {
        scheme @ ("rtsp" | "rtsps") => network(scheme, rest).map(|(url, login)| Address::Rtsp { url, login }),
        scheme @ ("http" | "https") => network(scheme, rest).map(|(url, login)| Address::Http { url, login }),
        "libcamera" => libcamera(rest),
        "csi" => csi(rest),
        "v4l2" => absolute_path("v4l2", rest, "dev/video0").map(Address::V4l2),
        "file" => absolute_path("file", rest, "srv/clips/yard.mp4").map(Address::File),
        "test" => test(rest),
        _ => Err(unknown_scheme(text)),
    }
}

/// Returns the path of a `file://` address.
///
/// Errors: the rule that the address breaks.
pub fn file_path(address: &str) -> Result<PathBuf, String> {
    match parse(address)? {
        Address::File(path) => Ok(path),
        _ => Err("is the address of a camera, not the path of a recording".into()),
    }
}

fn unknown_scheme(text: &str) -> String {
    let mut rule = format!("must start with {SCHEME_LIST}, or be \"custom\"");
    let scheme = text.split(':').next().unwrap_or_default();
    if text.starts_with("/dev/") {
        rule += "; did you mean v4l2:// and this path?";
    } else if text.starts_with('/') {
        rule += "; did you mean file:// and this path?";
    } else if let Some(near) = suggest::nearest(scheme, &SCHEMES) {
        rule += &match near {
            "custom" => "; did you mean \"custom\"?".to_string(),
            scheme => format!("; did you mean {scheme}://?"),
        };
    }
    rule
}

/// Splits the URL of a network camera into the URL without credentials, and the credentials.
fn network(scheme: &str, rest: &str) -> Result<(String, Option<UrlLogin>), String> {
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // The last @ ends the credentials, because many people do not escape an @ in a password.
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    if !is_host_and_port(host) {
        let mut rule = format!("must be {scheme}://host[:port]/path with a port from 1 to 65535");
        if tail.contains('@') {
            rule += "; in a password, write %2F for /, %3F for ? and %23 for #";
        }
        return Err(rule);
    }
    if tail.contains(char::is_whitespace) {
        return Err("must not contain spaces; write %20".into());
    }
    let login = login.map(url_login).transpose()?;
    Ok((format!("{scheme}://{host}{tail}"), login))
}

/// libcamera's names may contain almost any character: `/base/soc/i2c0mux/i2c@1/imx219@10`.
fn libcamera(name: &str) -> Result<Address, String> {
    match percent_decode_text(name) {
        Some(name) => Ok(Address::Libcamera(Some(name).filter(|name| !name.is_empty()))),
        None => {
            Err("must be libcamera://, or libcamera:// followed by the camera's name in libcamera".into())
        }
    }
}

fn csi(sensor: &str) -> Result<Address, String> {
    match sensor.parse() {
        Ok(sensor @ 0..=15) => Ok(Address::Csi(sensor)),
        _ => Err("must be csi:// followed by the number of the sensor, such as csi://0".into()),
    }
}

fn is_host_and_port(text: &str) -> bool {
    let (host, port) = if let Some(end) = text.strip_prefix('[').and(text.find(']')) {
        let is_v6 = text[1..end].parse::<std::net::Ipv6Addr>().is_ok();
        (
            if is_v6 { "v6" } else { "" },
            text[end + 1..].strip_prefix(':').or((end + 1 < text.len()).then_some("?")),
        )
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let port_is_valid = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    validators::host(host).is_ok() && port_is_valid
}

fn url_login(text: &str) -> Result<UrlLogin, String> {
    let (user, password) =
        text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let decode = |part: &str| {
        percent_decode_text(part)
            .ok_or("must have a user name and a password in UTF-8 without control characters")
    };
    let login = UrlLogin { user: decode(user)?, password: password.map(decode).transpose()? };
    if login.user.is_empty() {
        return Err("must have a user name before the @".into());
    }
    Ok(login)
}

fn absolute_path(scheme: &str, rest: &str, example: &str) -> Result<PathBuf, String> {
    let bytes = percent_decode(rest);
    if bytes.len() < 2 || bytes[0] != b'/' || bytes.contains(&0) {
        return Err(format!(
            "must be {scheme}:// followed by an absolute path, with three slashes in a row: {scheme}:///{example}"
        ));
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

fn test(pattern: &str) -> Result<Address, String> {
    if !pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(
            "must be test://, or test:// followed by a pattern of videotestsrc, such as test://ball".into()
        );
    }
    let pattern = if pattern.is_empty() { TEST_PATTERN } else { pattern };
    Ok(Address::Test { pattern: pattern.to_string() })
}

/// Decodes `%20` and the like to text. Returns None if the result is not UTF-8 or contains control
/// characters.
fn percent_decode_text(text: &str) -> Option<String> {
    String::from_utf8(percent_decode(text)).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Decodes `%20` and the like. A `%` that is not followed by two hex digits is kept.
pub fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hex digits are at most 255.
                decoded.push((high * 16 + low) as u8);
                i += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                i += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtsp(url: &str, login: Option<(&str, Option<&str>)>) -> Address {
        let login =
            login.map(|(user, password)| UrlLogin { user: user.into(), password: password.map(Into::into) });
        Address::Rtsp { url: url.into(), login }
    }

    fn http(url: &str, login: Option<(&str, Option<&str>)>) -> Address {
        match rtsp(url, login) {
            Address::Rtsp { url, login } => Address::Http { url, login },
            other => other,
        }
    }

    #[test]
    fn every_kind_of_address_is_parsed() {
        for (text, expected) in [
            ("rtsp://10.0.0.5/stream", rtsp("rtsp://10.0.0.5/stream", None)),
            ("RTSPS://cam.lan:322", rtsp("rtsps://cam.lan:322", None)),
            ("rtsp://[fe80::1]:554/s@1?a=b", rtsp("rtsp://[fe80::1]:554/s@1?a=b", None)),
            ("rtsp://me@h/s", rtsp("rtsp://h/s", Some(("me", None)))),
            ("rtsp://me:p%40ss%2F:w@h/s", rtsp("rtsp://h/s", Some(("me", Some("p@ss/:w"))))),
            ("rtsp://me:p@ss@h:8554/s", rtsp("rtsp://h:8554/s", Some(("me", Some("p@ss"))))),
            ("v4l2:///dev/video0", Address::V4l2("/dev/video0".into())),
            ("file:///srv/a clip.mp4", Address::File("/srv/a clip.mp4".into())),
            ("file:///srv/a%20clip%C3%BC.mp4", Address::File("/srv/a clipü.mp4".into())),
            ("file:///srv/100%.mp4", Address::File("/srv/100%.mp4".into())),
            ("test://", Address::Test { pattern: "smpte".into() }),
            ("test://checkers-8", Address::Test { pattern: "checkers-8".into() }),
            ("custom", Address::Custom),
            ("http://cam.lan:8080/video?fps=5", http("http://cam.lan:8080/video?fps=5", None)),
            ("https://me:p%40ss@h/still.jpg", http("https://h/still.jpg", Some(("me", Some("p@ss"))))),
            ("libcamera://", Address::Libcamera(None)),
            ("libcamera:///base/i2c@1/imx219@10", Address::Libcamera(Some("/base/i2c@1/imx219@10".into()))),
            ("csi://1", Address::Csi(1)),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_get_a_precise_error() {
        const SCHEME: &str = "must start with rtsp://, rtsps://, http://, https://, v4l2://, libcamera://, csi://, \
                              file:// or test://, or be \"custom\"";
        const HOST: &str = "must be rtsp://host[:port]/path with a port from 1 to 65535";
        let slashes = |scheme: &str, example: &str| {
            format!(
                "must be {scheme}:// followed by an absolute path, with three slashes in a row: {scheme}:///{example}"
            )
        };
        for (text, expected) in [
            ("rstp://h/s", format!("{SCHEME}; did you mean rtsp://?")),
            ("ftp://h/s", SCHEME.into()),
            ("http://h:0/s", HOST.replace("rtsp", "http")),
            ("csi://front", "must be csi:// followed by the number of the sensor, such as csi://0".into()),
            (
                "libcamera://%00",
                "must be libcamera://, or libcamera:// followed by the camera's name in libcamera".into(),
            ),
            ("Custom", format!("{SCHEME}; did you mean \"custom\"?")),
            ("/dev/video0", format!("{SCHEME}; did you mean v4l2:// and this path?")),
            ("/srv/a.mp4", format!("{SCHEME}; did you mean file:// and this path?")),
            ("rtsp:/h/s", format!("{SCHEME}; did you mean rtsp://?")),
            ("rtsp://", HOST.into()),
            ("rtsp://h:0/s", HOST.into()),
            ("rtsp://h:+554/s", HOST.into()),
            ("rtsp://h:70000/s", HOST.into()),
            ("rtsp://[::1]554/s", HOST.into()),
            ("rtsp://a:b/c@h/s", format!("{HOST}; in a password, write %2F for /, %3F for ? and %23 for #")),
            ("rtsp://:b@h/s", "must have a user name before the @".into()),
            (
                "rtsp://a:%ff@h/s",
                "must have a user name and a password in UTF-8 without control characters".into(),
            ),
            ("rtsp://h/a b", "must not contain spaces; write %20".into()),
            ("file://clip.mp4", slashes("file", "srv/clips/yard.mp4")),
            ("file:///", slashes("file", "srv/clips/yard.mp4")),
            ("file:///a%00b", slashes("file", "srv/clips/yard.mp4")),
            ("v4l2://dev/video0", slashes("v4l2", "dev/video0")),
            (
                "test://a b",
                "must be test://, or test:// followed by a pattern of videotestsrc, such as test://ball"
                    .into(),
            ),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }
}
