//! The picture files of events: their names, and the request that the workers send to the store.

use crate::vision::picture::Pictures;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Pictures of an event, to be stored.
#[derive(Debug)]
pub struct PictureFiling {
    /// Camera name.
    pub camera: Arc<str>,
    /// Event id.
    pub id: Uuid,
    /// When the object was first seen. Its day is the folder name.
    pub started_at: Timestamp,
    /// JPEG files. They replace earlier ones of the same event.
    pub pictures: Pictures,
}

/// Paths of an event's pictures, relative to `pictures.directory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureFiles {
    /// The object, cropped.
    pub crop: String,
    /// The whole frame.
    pub frame: String,
    /// The whole frame with box and label drawn on it.
    pub annotated: String,
}

impl PictureFiles {
    /// The paths of an event's pictures: `yard/2026-11-24/<id>-crop.jpg`. Days are UTC.
    pub fn new(camera: &str, id: Uuid, started_at: Timestamp) -> PictureFiles {
        let day = started_at.strftime("%Y-%m-%d");
        let path = |kind: &str| format!("{camera}/{day}/{id}-{kind}.jpg");
        PictureFiles { crop: path("crop"), frame: path("frame"), annotated: path("annotated") }
    }
}
