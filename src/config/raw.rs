//! The table of all keys, and what was typed for them: to add a key, add its line here and its meaning in
//! [`super::rules`].
//!
//! A line says the key's name, its type in Rust, what it may hold and its default. From it come the serde structs
//! below [`Raw`], the defaults, the reading of environment and flags, the suggestions for misspelt keys and the
//! messages about wrong values. What the layers hand over has been checked value by value; nothing here has been held
//! against anything else.
//!
//! Passwords are in here as typed, so nothing here has a `Debug`.

use super::{
    Decode, Durability, LogLevel, OptionValue,
    key::{AUTO, Key, Kind},
    source, validators,
};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// What `$name "key": $type = $kind, $default` makes: a struct and the `KEYS` that describe it. The key is called
/// like its field unless a text says otherwise, for keys that are words of Rust.
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
                default: $default,
            },)*];
        }
    };
}

/// The sections by name: the struct of everything typed, and the list of them.
macro_rules! sections {
    ($($section:ident: $struct:ident { $($keys:tt)* })*) => {
        /// All that was typed or defaulted, each value of the kind that its key asks for.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Raw {
            $(pub(super) $section: $struct,)*
            #[serde(default)]
            pub(super) cameras: BTreeMap<String, Camera>,
        }

        /// Every section but the cameras', with its keys.
        pub(super) const SECTIONS: &[(&str, &[Key])] = &[$((stringify!($section), $struct::KEYS),)*];

        $(keys! { $struct { $($keys)* } })*
    };
}

sections! {
    node: Node {
        name: String = Kind::Text(validators::name), "";
    }
    log: Log {
        level: LogLevel = Kind::Choice(&["error", "warn", "info", "debug", "trace"]), "info";
    }
    mqtt: Mqtt {
        host: String = Kind::Text(validators::host), "127.0.0.1";
        port: u16 = Kind::Whole(1, 65_535), "1883";
        base_topic: String = Kind::Text(validators::topic), "camfire";
        client_id: String = Kind::Text(validators::line), "";
        user: String = Kind::Text(validators::line), "";
        password: String = Kind::Secret, "";
        password_file: String = Kind::Text(validators::line), "";
        // The protocol has 16 bits for seconds.
        keep_alive: Period = Kind::WholeSeconds(SECOND, Duration::from_secs(65_535)), "30s";
        connect_timeout: Period = Kind::Duration(Duration::from_millis(100), HOUR), "5s";
        tls: bool = Kind::Boolean, "false";
        ca_file: String = Kind::Text(validators::line), "";
        cert_file: String = Kind::Text(validators::line), "";
        key_file: String = Kind::Text(validators::line), "";
        alpn: Vec<String> = Kind::Words, "";
        fallbacks: Vec<String> = Kind::Words, "";
        max_packet_kib: usize = Kind::Whole(1, 262_144), "1024";
    }
    outbox: Outbox {
        file: String = Kind::Text(validators::line), "";
        durability: Durability = Kind::Choice(&["strict", "grouped", "light"]), "grouped";
        max_messages: u64 = Kind::Whole(100, 100_000_000), "100000";
        max_mib: u64 = Kind::Whole(1, 1_000_000), "64";
        max_age: Period = Kind::Duration(Duration::from_secs(60), YEAR), "7days";
        replay: Period = Kind::Duration(Duration::ZERO, HOUR), "5s";
        durable_kinds: Vec<String> = Kind::Words, "";
    }
    commands: Commands {
        accept: bool = Kind::Boolean, "false";
    }
    engine: Engine {
        model: String = Kind::Text(validators::line), "";
        labels: String = Kind::Text(validators::line), "";
        name: String = Kind::Choice(&["auto", "native", "tract"]), "auto";
        kernels: String = Kind::Choice(KERNELS), "auto";
        workers: usize = Kind::Whole(0, 256), "0";
    }
    detections: Detections {
        top: usize = Kind::Whole(1, 1000), "3";
    }
    objects: Objects {
        score: f64 = Kind::Number(0.01, 1.0), "0.4";
        max_inferences_per_frame: usize = Kind::Whole(1, 100), "4";
        margin: f64 = Kind::Number(0.0, 2.0), "0.15";
        reclassify_after: Period = Kind::Duration(Duration::from_millis(100), DAY), "5s";
        confirm: Period = Kind::Duration(Duration::ZERO, HOUR), "200ms";
        lost_after: Period = Kind::Duration(Duration::from_millis(100), HOUR), "2s";
        absorb_after: Period = Kind::Duration(SECOND, DAY), "20s";
        settled_after: Period = Kind::Duration(SECOND, YEAR), "1day";
    }
    pictures: Pictures {
        directory: String = Kind::Text(validators::line), "";
        max_mib: u64 = Kind::Whole(0, 1_000_000_000), "1024";
        max_age: Period = Kind::Duration(Duration::from_secs(60), YEAR), "30days";
        quality: u8 = Kind::Whole(10, 100), "80";
        publish: bool = Kind::Boolean, "false";
    }
    stats: Stats {
        interval: Period = Kind::Duration(SECOND, DAY), "10s";
    }
    homeassistant: HomeAssistant {
        discovery: bool = Kind::Boolean, "false";
        prefix: String = Kind::Text(validators::topic), "homeassistant";
    }
    frigate: Frigate {
        events: bool = Kind::Boolean, "false";
        topic: String = Kind::Text(validators::topic), "frigate";
    }
    web: Web {
        listen: String = Kind::Text(validators::listen), "";
        allow_remote: bool = Kind::Boolean, "false";
    }
}

/// The keys of every `[cameras.NAME]`.
pub(super) const CAMERA: &[Key] = Camera::KEYS;

keys! {
    Camera {
        source: String = Kind::Text(source::form), "";
        snapshot_source: String = Kind::Text(source::form), "";
        pipeline: String = Kind::Text(validators::line), "auto";
        launch: String = Kind::Text(validators::lines), "";
        repeat "loop": bool = Kind::Boolean, "true";
        realtime: bool = Kind::Boolean, "true";
        rate_fps: f64 = Kind::Positive(1000.0), "5";
        decode: Decode = Kind::Choice(&["auto", "all", "keyframes"]), "auto";
        keyframe_limit: Period = Kind::Duration(Duration::from_millis(100), HOUR), "2s";
        rotate: u16 = Kind::Whole(0, 270), "0";
        stall_timeout: AutoPeriod = Kind::AutoDuration(SECOND, DAY), "auto";
        first_frame_timeout: Period = Kind::Duration(SECOND, DAY), "10s";
        max_backoff: Period = Kind::Duration(Duration::from_millis(100), HOUR), "30s";
        user: String = Kind::Text(validators::line), "";
        password: String = Kind::Secret, "";
        password_file: String = Kind::Text(validators::line), "";
        motion_threshold: f64 = Kind::Number(1.0, 255.0), "8";
        motion_memory: Period = Kind::Duration(SECOND, DAY), "20s";
        min_size: f64 = Kind::Number(0.0, 1.0), "0.03";
        masks: Vec<Corners> = Kind::Polygons, "";
        labels: Vec<String> = Kind::Words, "";
        heatmap: bool = Kind::Boolean, "false";
        zones: BTreeMap<String, Corners> = Kind::Options, "";
        regions: BTreeMap<String, Region> = Kind::Options, "";
        options: BTreeMap<String, OptionValue> = Kind::Options, "";
    }
}

/// A polygon's corners in parts of the picture's width and height.
pub(super) type Corners = Vec<(f64, f64)>;

/// The keys of every `[cameras.NAME.regions.NAME]`.
pub(super) const REGION: &[Key] = Region::KEYS;

keys! {
    Region {
        part "box": Vec<f64> = Kind::Part, "[0, 0, 1, 1]";
        every: Period = Kind::Duration(Duration::from_millis(10), DAY), "5s";
        hold: Period = Kind::Duration(Duration::ZERO, DAY), "10s";
        score: f64 = Kind::Number(0.01, 1.0), "0.4";
        labels: Vec<String> = Kind::Words, "";
    }
}

/// The sets that the native engine has, see [`engine::KernelSet`].
const KERNELS: &[&str] = &["auto", "scalar", "avx2", "avx-vnni", "avx512-vnni", "neon", "dotprod", "i8mm"];

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A duration typed with its unit, such as `"1m 30s"`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Period(pub(super) Duration);

/// The same, or "auto".
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct AutoPeriod(pub(super) Option<Duration>);

impl TryFrom<String> for AutoPeriod {
    type Error = humantime::DurationError;

    fn try_from(text: String) -> Result<AutoPeriod, Self::Error> {
        if text == AUTO {
            return Ok(AutoPeriod(None));
        }
        humantime::parse_duration(&text).map(|duration| AutoPeriod(Some(duration)))
    }
}

impl TryFrom<String> for Period {
    type Error = humantime::DurationError;

    fn try_from(text: String) -> Result<Period, Self::Error> {
        humantime::parse_duration(&text).map(Period)
    }
}
