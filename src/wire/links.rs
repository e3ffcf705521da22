//! Links to the page and to pictures of events, for those who cannot log in: a phone's notification fetches
//! the picture without a session.
//!
//! A link to a picture has a key of its own, which opens this picture of this event and nothing else: a code
//! (HMAC-SHA256) of the event's id and the picture's name. Who has the link can fetch the picture for as long
//! as the store keeps it. Nothing is stored for a link.

use crate::hex;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

/// Length of a key in bytes.
const KEY_BYTES: usize = 16;

/// Links of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLinks {
    /// The event's view on the page.
    pub page: String,
    /// The whole frame with box and label drawn on it. Null if no picture is stored.
    pub picture: Option<String>,
    /// The object, cropped. Null if no picture is stored.
    pub crop: Option<String>,
}

/// A picture that a link can lead to. The names are Frigate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkedPicture {
    /// The whole frame with box and label drawn on it.
    Annotated,
    /// The object, cropped.
    Crop,
}

impl LinkedPicture {
    /// The picture of a file name in a link.
    pub fn of_file_name(name: &str) -> Option<LinkedPicture> {
        [LinkedPicture::Annotated, LinkedPicture::Crop]
            .into_iter()
            .find(|picture| picture.file_name() == name)
    }

    fn file_name(self) -> &'static str {
        match self {
            LinkedPicture::Annotated => "snapshot.jpg",
            LinkedPicture::Crop => "thumbnail.jpg",
        }
    }
}

/// The secret that the keys of all links are made with. Another one makes all earlier links invalid.
#[derive(Clone)]
pub struct LinkSecret(pub String);

/// Makes the links of a node and recognises their keys.
#[derive(Clone)]
pub struct Links {
    public_url: String,
    secret: LinkSecret,
}

impl Links {
    /// Links below `web.public_url`.
    pub fn new(public_url: String, secret: LinkSecret) -> Links {
        Links { public_url, secret }
    }

    /// The links of an event.
    pub fn of_event(&self, id: Uuid, has_pictures: bool) -> EventLinks {
        let public_url = &self.public_url;
        let picture = |picture: LinkedPicture| {
            let code = self.code(id, picture).finalize().into_bytes();
            let key = hex::encode(&code[..KEY_BYTES]);
            format!("{public_url}/api/events/{id}/{}?key={key}", picture.file_name())
        };
        EventLinks {
            page: format!("{public_url}/#/events/{id}"),
            picture: has_pictures.then(|| picture(LinkedPicture::Annotated)),
            crop: has_pictures.then(|| picture(LinkedPicture::Crop)),
        }
    }

    /// Whether `key` is that of a link to this picture. The time that it takes does not depend on how much of
    /// the key is right.
    pub fn opens(&self, id: Uuid, picture: LinkedPicture, key: &str) -> bool {
        let is_key = key.len() == 2 * KEY_BYTES && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(key) = u128::from_str_radix(key, 16).ok().filter(|_| is_key) else { return false };
        self.code(id, picture).verify_truncated_left(&key.to_be_bytes()).is_ok()
    }

    fn code(&self, id: Uuid, picture: LinkedPicture) -> Hmac<Sha256> {
        let mut code =
            Hmac::<Sha256>::new_from_slice(self.secret.0.as_bytes()).expect("secrets may have any length");
        code.update(id.as_bytes());
        code.update(picture.file_name().as_bytes());
        code
    }
}

/// The node's view on the page.
pub fn node_page(public_url: &str) -> String {
    format!("{public_url}/#/node")
}

/// A camera's view on the page. Names of cameras need no encoding.
pub fn camera_page(public_url: &str, camera: &str) -> String {
    format!("{public_url}/#/cameras/{camera}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x019dbecc_3a6d_7a31_b1c7_4d5a8e5b2f10);
    const OTHER: Uuid = Uuid::from_u128(0x019dbecc_3a6d_7a31_b1c7_4d5a8e5b2f11);

    fn links(secret: &str) -> Links {
        Links::new("https://cam.lan/a".into(), LinkSecret(secret.into()))
    }

    fn key(link: &str) -> &str {
        link.split_once("?key=").unwrap().1
    }

    #[test]
    fn an_event_has_links_to_its_view_and_its_pictures() {
        let EventLinks { page, picture, crop } = links("secret").of_event(ID, true);
        let (picture, crop) = (picture.unwrap(), crop.unwrap());
        assert_eq!(page, format!("https://cam.lan/a/#/events/{ID}"));
        // Made by another program: hmac.new(b"secret", id + name, "sha256").hexdigest()[:32]
        let expected = "5308c79967b0ac9aa28cb7d074f361e3";
        assert_eq!(picture, format!("https://cam.lan/a/api/events/{ID}/snapshot.jpg?key={expected}"));
        assert!(crop.starts_with(&format!("https://cam.lan/a/api/events/{ID}/thumbnail.jpg?key=")), "{crop}");
        assert_ne!(key(&picture), key(&crop));
        let without = links("secret").of_event(ID, false);
        assert_eq!((without.page, without.picture, without.crop), (page, None, None));
    }

    #[test]
    fn a_key_opens_one_picture_of_one_event() {
        let links = links("secret");
        let link = links.of_event(ID, true).picture.unwrap();
        let key = key(&link);
        assert!(links.opens(ID, LinkedPicture::Annotated, key));
        assert!(!links.opens(ID, LinkedPicture::Crop, key));
        assert!(!links.opens(OTHER, LinkedPicture::Annotated, key));
        assert!(!self::links("another secret").opens(ID, LinkedPicture::Annotated, key), "another secret");
        for position in 0..key.len() {
            let mut changed = key.to_string().into_bytes();
            changed[position] = if changed[position] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!links.opens(ID, LinkedPicture::Annotated, &changed), "{changed}");
        }
        let (shorter, longer, signed) = (&key[..30], format!("{key}00"), format!("+{}", &key[1..]));
        for wrong in ["", "0", shorter, &longer, &signed, &format!(" {key}"), "ключ", &"ä".repeat(16)] {
            assert!(!links.opens(ID, LinkedPicture::Annotated, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn names_of_files_are_those_of_links() {
        for picture in [LinkedPicture::Annotated, LinkedPicture::Crop] {
            assert_eq!(LinkedPicture::of_file_name(picture.file_name()), Some(picture));
        }
        for other in ["", "frame.jpg", "snapshot.jpg/", "../snapshot.jpg", "clip.mp4"] {
            assert_eq!(LinkedPicture::of_file_name(other), None, "{other}");
        }
    }
}
