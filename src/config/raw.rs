//! The tables of all keys, and the values written for them. To add a key, add its line here and use it in
//! [`super::rules`].
//!
//! A line contains the key's name, its Rust type, its kind and its default. The serde structs below [`Raw`],
//! the defaults, the parsing of environment and flags, suggestions for misspelt keys and the error texts are
//! all derived from it. Each value in here has been checked by itself, but not against other keys.
//!
//! The structs contain passwords, so none of them implements `Debug`.

use super::{
    duration,
    key::{AUTO, Key, KeyKind},
    source,
    types::{Decode, Durability, LogLevel, OptionValue},
    validators,
};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// Defines a struct and its `KEYS` from lines `field "key": type = kind, default;`. The key has the field's
/// name unless a string gives another one, for keys that are reserved words of Rust.
macro_rules! keys {
    ($struct:ident {
        $($field:ident $($name:literal)?: $type:ty = $kind:expr, $default:literal;)*
    }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $struct {
            $($(#[serde(rename = $name)])? pub(super) $field: $type,)*
        }

        impl $struct {
            const KEYS: &[Key] = &[$(Key {
                name: *[stringify!($field) $(, $name)?].last().expect("there is a name"),
                kind: $kind,
                default: Some($default),
            },)*];
        }
    };
}

/// Defines [`Raw`] and [`SECTIONS`] from the sections with fixed names.
macro_rules! sections {
    ($($section:ident: $struct:ident { $($keys:tt)* })*) => {
        /// The merged values of all layers, defaults included, each of its key's kind.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Raw {
            $(pub(super) $section: $struct,)*
            #[serde(default)]
            pub(super) cameras: BTreeMap<String, Camera>,
        }

        /// The sections with fixed names, each with its keys.
        pub(super) const SECTIONS: &[(&str, &[Key])] = &[$((stringify!($section), $struct::KEYS),)*];

        $(keys! { $struct { $($keys)* } })*
    };
}

sections! {
    node: Node {
        name: String = KeyKind::Text(validators::name), "";
    }
    log: Log {
        level: LogLevel = KeyKind::Choice(&["error", "warn", "info", "debug", "trace"]), "info";
    }
    mqtt: Mqtt {
        host: String = KeyKind::Text(validators::host), "127.0.0.1";
        port: u16 = KeyKind::Integer(1, 65_535), "1883";
        base_topic: String = KeyKind::Text(validators::topic), "camfire";
        client_id: String = KeyKind::Text(validators::line), "";
        user: String = KeyKind::Text(validators::line), "";
        password: String = KeyKind::Secret, "";
        password_file: String = KeyKind::Text(validators::line), "";
        // The protocol has 16 bits for the seconds.
        keep_alive: DurationText = KeyKind::WholeSeconds(SECOND, Duration::from_secs(65_535)), "30s";
        connect_timeout: DurationText = KeyKind::Duration(Duration::from_millis(100), HOUR), "5s";
        tls: bool = KeyKind::Boolean, "false";
        ca_file: String = KeyKind::Text(validators::line), "";
        cert_file: String = KeyKind::Text(validators::line), "";
        key_file: String = KeyKind::Text(validators::line), "";
        alpn: Vec<String> = KeyKind::Strings, "";
        fallbacks: Vec<String> = KeyKind::Strings, "";
        max_packet_kib: usize = KeyKind::Integer(1, 262_144), "1024";
    }
    outbox: Outbox {
        file: String = KeyKind::Text(validators::line), "";
        durability: Durability = KeyKind::Choice(&["strict", "grouped", "light"]), "grouped";
        max_messages: u64 = KeyKind::Integer(100, 100_000_000), "100000";
        max_mib: u64 = KeyKind::Integer(1, 1_000_000), "64";
        max_age: DurationText = KeyKind::Duration(Duration::from_secs(60), YEAR), "7days";
        replay: DurationText = KeyKind::Duration(Duration::ZERO, HOUR), "5s";
        durable_kinds: Vec<String> = KeyKind::Strings, "";
    }
    commands: Commands {
        settings_file: String = KeyKind::Text(validators::line), "";
        accept: bool = KeyKind::Boolean, "false";
    }
    engine: Engine {
        model: String = KeyKind::Text(validators::line), "";
        labels: String = KeyKind::Text(validators::line), "";
        everyday_model: String = KeyKind::Text(validators::line), "";
        everyday_head: String = KeyKind::Text(validators::line), "";
        detector: String = KeyKind::Text(validators::line), "motion";
        name: String = KeyKind::Choice(&["auto", "native", "tract"]), "auto";
        kernels: String = KeyKind::Choice(KERNELS), "auto";
        workers: usize = KeyKind::Integer(0, 256), "0";
    }
    detections: Detections {
        top: usize = KeyKind::Integer(1, 1000), "3";
    }
    objects: Objects {
        score: f64 = KeyKind::Number(0.01, 1.0), "0.4";
        inference_budget: DurationText = KeyKind::Duration(Duration::from_millis(1), Duration::from_secs(10)), "100ms";
        margin: f64 = KeyKind::Number(0.0, 2.0), "0.15";
        reclassify_after: DurationText = KeyKind::Duration(Duration::from_millis(100), DAY), "5s";
        confirm: DurationText = KeyKind::Duration(Duration::ZERO, HOUR), "200ms";
        name_within: DurationText = KeyKind::Duration(Duration::ZERO, HOUR), "1500ms";
        lost_after: DurationText = KeyKind::Duration(Duration::from_millis(100), HOUR), "2s";
        absorb_after: DurationText = KeyKind::Duration(SECOND, DAY), "20s";
        settled_after: DurationText = KeyKind::Duration(SECOND, YEAR), "1day";
    }
    pictures: Pictures {
        directory: String = KeyKind::Text(validators::line), "";
        max_mib: u64 = KeyKind::Integer(0, 1_000_000_000), "1024";
        max_age: DurationText = KeyKind::Duration(Duration::from_secs(60), YEAR), "30days";
        quality: u8 = KeyKind::Integer(10, 100), "80";
        publish: bool = KeyKind::Boolean, "false";
    }
    stats: Stats {
        interval: DurationText = KeyKind::Duration(SECOND, DAY), "10s";
    }
    homeassistant: HomeAssistant {
        discovery: bool = KeyKind::Boolean, "false";
        prefix: String = KeyKind::Text(validators::topic), "homeassistant";
        max_event_age: DurationText = KeyKind::Duration(SECOND, HOUR), "10s";
    }
    frigate: Frigate {
        events: bool = KeyKind::Boolean, "false";
        topic: String = KeyKind::Text(validators::topic), "frigate";
    }
    web: Web {
        listen: String = KeyKind::Text(validators::listen), "";
        allow_remote: bool = KeyKind::Boolean, "false";
        password_file: String = KeyKind::Text(validators::line), "";
        hosts: Vec<String> = KeyKind::Strings, "";
        public_url: String = KeyKind::Text(validators::optional_public_url), "";
        cert_file: String = KeyKind::Text(validators::line), "";
        key_file: String = KeyKind::Text(validators::line), "";
        trusted_proxies: Vec<String> = KeyKind::Strings, "";
        preview_mib: usize = KeyKind::Integer(0, 4096), "32";
    }
}

/// Keys of each `[cameras.NAME]`.
pub(super) const CAMERA: &[Key] = Camera::KEYS;

keys! {
    Camera {
        source: String = KeyKind::Text(source::validate), "";
        snapshot_source: String = KeyKind::Text(source::validate), "";
        pipeline: String = KeyKind::Text(validators::line), "auto";
        launch: String = KeyKind::Text(validators::lines), "";
        repeat "loop": bool = KeyKind::Boolean, "true";
        realtime: bool = KeyKind::Boolean, "true";
        rate_fps: f64 = KeyKind::Positive(1000.0), "5";
        decode: Decode = KeyKind::Choice(&["auto", "all", "keyframes"]), "auto";
        keyframe_limit: DurationText = KeyKind::Duration(Duration::from_millis(100), HOUR), "2s";
        rotate: u16 = KeyKind::Integer(0, 270), "0";
        stall_timeout: AutoDurationText = KeyKind::AutoDuration(SECOND, DAY), "auto";
        first_frame_timeout: DurationText = KeyKind::Duration(SECOND, DAY), "10s";
        max_backoff: DurationText = KeyKind::Duration(Duration::from_millis(100), HOUR), "30s";
        user: String = KeyKind::Text(validators::line), "";
        password: String = KeyKind::Secret, "";
        password_file: String = KeyKind::Text(validators::line), "";
        motion_threshold: f64 = KeyKind::Number(1.0, 255.0), "8";
        motion_memory: DurationText = KeyKind::Duration(SECOND, DAY), "20s";
        min_size: f64 = KeyKind::Number(0.0, 1.0), "0.03";
        masks: Vec<Corners> = KeyKind::Polygons, "";
        score: AutoNumberValue = KeyKind::AutoNumber(0.01, 1.0), "auto";
        labels: Vec<String> = KeyKind::Strings, "";
        heatmap: bool = KeyKind::Boolean, "false";
        view_every: DurationText = KeyKind::Duration(Duration::ZERO, HOUR), "0s";
        area: String = KeyKind::Text(validators::line), "";
        zones: BTreeMap<String, Corners> = KeyKind::Table, "";
        regions: BTreeMap<String, Region> = KeyKind::Table, "";
        options: BTreeMap<String, OptionValue> = KeyKind::Table, "";
    }
}

/// Corners of a polygon, as fractions of the image's width and height.
pub(super) type Corners = Vec<(f64, f64)>;

/// Keys of each `[cameras.NAME.regions.NAME]`.
pub(super) const REGION: &[Key] = Region::KEYS;

keys! {
    Region {
        rectangle "box": Vec<f64> = KeyKind::Rectangle, "[0, 0, 1, 1]";
        every: DurationText = KeyKind::Duration(Duration::from_millis(10), DAY), "5s";
        hold: DurationText = KeyKind::Duration(Duration::ZERO, DAY), "10s";
        score: f64 = KeyKind::Number(0.01, 1.0), "0.4";
        labels: Vec<String> = KeyKind::Strings, "";
    }
}

/// Any key of `[cameras.NAME.zones]`.
pub(super) const ZONE: Key = Key { name: "", kind: KeyKind::Polygon, default: None };

/// Any key of `[cameras.NAME.options]`.
pub(super) const OPTION: Key = Key { name: "", kind: KeyKind::Scalar, default: None };

/// Any key of `[groups]`.
pub(super) const GROUP: Key = Key { name: "", kind: KeyKind::Classes, default: None };

/// Names of the native engine's kernel sets, see [`engine::KernelSet`].
const KERNELS: &[&str] = &["auto", "scalar", "avx2", "avx-vnni", "avx512-vnni", "neon", "dotprod", "i8mm"];

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A duration as written, such as `"1m 30s"`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct DurationText(pub(super) Duration);

/// A duration as written, or None for [`AUTO`].
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct AutoDurationText(pub(super) Option<Duration>);

/// A number, or None for [`AUTO`].
#[derive(Deserialize)]
#[serde(from = "NumberOrWord")]
pub(super) struct AutoNumberValue(pub(super) Option<f64>);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrWord {
    Number(f64),
    /// Only [`AUTO`] is valid.
    Word(#[allow(dead_code, reason = "it says what the text must be")] String),
}

impl From<NumberOrWord> for AutoNumberValue {
    fn from(value: NumberOrWord) -> AutoNumberValue {
        match value {
            NumberOrWord::Number(number) => AutoNumberValue(Some(number)),
            NumberOrWord::Word(_) => AutoNumberValue(None),
        }
    }
}

impl TryFrom<String> for AutoDurationText {
    type Error = String;

    fn try_from(text: String) -> Result<AutoDurationText, String> {
        if text == AUTO {
            return Ok(AutoDurationText(None));
        }
        duration::parse(&text).map(|duration| AutoDurationText(Some(duration)))
    }
}

impl TryFrom<String> for DurationText {
    type Error = String;

    fn try_from(text: String) -> Result<DurationText, String> {
        duration::parse(&text).map(DurationText)
    }
}

/// Returns None for an empty string, which means "not set".
pub(super) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
