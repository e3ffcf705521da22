//! The configuration that is written, as text. Passwords are not part of it, but the names of their files.

use crate::config::{Login, RESERVED_NAMES};
use std::{fmt::Write, path::Path};

/// A camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraEntry {
    /// Its name.
    pub name: String,
    /// Its address, without a login.
    pub source: String,
    /// User and password.
    pub login: Option<Login>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerEntry {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User and password.
    pub login: Option<Login>,
}

/// What is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Entries {
    /// None if the broker is configured already, or is the default one.
    pub broker: Option<BrokerEntry>,
    /// At least one.
    pub cameras: Vec<CameraEntry>,
}

impl Entries {
    /// The files for passwords in `directory`: name and password of each.
    pub fn passwords(&self) -> Vec<(String, &str)> {
        let broker =
            self.broker.iter().filter_map(|broker| Some((broker_file(), &*broker.login.as_ref()?.password)));
        let cameras = self.cameras.iter();
        let cameras =
            cameras.filter_map(|camera| Some((camera_file(&camera.name), &*camera.login.as_ref()?.password)));
        broker.chain(cameras).filter(|(_, password)| !password.is_empty()).collect()
    }

    /// The configuration. The files for passwords are in `directory`.
    pub fn toml(&self, directory: &Path) -> String {
        let mut text =
            String::from("# Written by `camfire init`. `camfire check` validates what you change.\n");
        if let Some(BrokerEntry { host, port, login }) = &self.broker {
            text += &format!("\n[mqtt]\nhost = {}\nport = {port}\n", quoted(host));
            push_login(&mut text, login.as_ref(), &directory.join(broker_file()));
        }
        for CameraEntry { name, source, login } in &self.cameras {
            text += &format!("\n[cameras.{name}]\nsource = {}\n", quoted(source));
            push_login(&mut text, login.as_ref(), &directory.join(camera_file(name)));
        }
        text
    }
}

fn push_login(text: &mut String, login: Option<&Login>, file: &Path) {
    let Some(Login { user, password }) = login else { return };
    let _ = writeln!(text, "user = {}", quoted(user));
    if !password.is_empty() {
        let _ = writeln!(text, "password_file = {}", quoted(&file.display().to_string()));
    }
}

fn broker_file() -> String {
    "mqtt-password".into()
}

fn camera_file(name: &str) -> String {
    format!("camera-{name}-password")
}

/// A string of TOML.
pub fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A name for a camera from what it calls itself, unlike those that are `taken`.
pub fn camera_name(called: &str, taken: &[String]) -> String {
    const MAX_CHARS: usize = 24;
    let lower = called.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = String::new();
    for word in words {
        if name.len() + word.len() >= MAX_CHARS || name.split('-').any(|known| known == word) {
            continue;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name += word;
    }
    if name.is_empty() || RESERVED_NAMES.contains(&&*name) {
        name = "camera".into();
    }
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = [name.clone()].into_iter().chain(numbered);
    names.find(|name| !taken.contains(name)).expect("there is no end of numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> Option<Login> {
        Some(Login { user: user.into(), password: password.into() })
    }

    #[test]
    fn passwords_are_in_files_of_their_own() {
        let entries = Entries {
            broker: Some(BrokerEntry {
                host: "broker.lan".into(),
                port: 8883,
                login: login("porch", "s3cret"),
            }),
            cameras: vec![
                CameraEntry {
                    name: "yard".into(),
                    source: "rtsp://h/a\"b".into(),
                    login: login("viewer", "t0p"),
                },
                CameraEntry { name: "door".into(), source: "v4l2:///dev/video0".into(), login: None },
                CameraEntry { name: "open".into(), source: "rtsp://h/c".into(), login: login("guest", "") },
            ],
        };
        let text = entries.toml(Path::new("/etc/camfire"));
        assert_eq!(
            text.split_once("\n\n").unwrap().1,
            "[mqtt]\nhost = \"broker.lan\"\nport = 8883\nuser = \"porch\"\n\
             password_file = \"/etc/camfire/mqtt-password\"\n\n\
             [cameras.yard]\nsource = 'rtsp://h/a\"b'\nuser = \"viewer\"\n\
             password_file = \"/etc/camfire/camera-yard-password\"\n\n\
             [cameras.door]\nsource = \"v4l2:///dev/video0\"\n\n\
             [cameras.open]\nsource = \"rtsp://h/c\"\nuser = \"guest\"\n"
        );
        assert_eq!(
            entries.passwords(),
            [("mqtt-password".to_string(), "s3cret"), ("camera-yard-password".to_string(), "t0p")]
        );
        assert!(text.parse::<toml::Table>().is_ok());
    }

    #[test]
    fn names_are_short_unlike_each_other_and_not_reserved() {
        let taken = ["hd-pro-webcam-c920".to_string(), "camera".to_string()];
        for (called, name) in [
            ("HD Pro Webcam C920", "hd-pro-webcam-c920-2"),
            ("HIKVISION DS-2CD2032-I", "hikvision-ds-2cd2032-i"),
            ("TP-Link C200", "tp-link-c200"),
            ("Integrated Camera: Integrated C", "integrated-camera-c"),
            ("status", "camera-2"),
            ("", "camera-2"),
        ] {
            assert_eq!(camera_name(called, &taken), name);
        }
    }
}
