//! From what was typed to what is meant: the rules between keys, and the defaults that depend on the machine.
//!
//! Each value alone has been judged already. A key whose own value was refused is left out of these rules: one mistake
//! is one problem. Nothing stops at the first problem; whoever calls looks at all of them before using the `Config`.

use super::{
    Broker, Camera, CameraJudge, Commands, Config, Detections, Engine, Frigate, HomeAssistant, Judge, Log,
    Motion, Mqtt, Naming, Network, Node, Objects, Outbox, Pictures, Region, Source, Stats, Tls, Web,
    key::AUTO,
    layers::Layers,
    login::{self, Typed},
    problems::{Place, Problem},
    raw::{self, Raw},
    source::{self, Address},
    validators,
};
use crate::{config::polygon::Polygon, frame::Rotation};
use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What the machine says where the configuration does not.
pub(super) struct Machine<'a> {
    /// The host's name, as the system has it.
    pub(super) host: String,
    /// CPU cores for us.
    pub(super) cores: usize,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub(super) credentials: Option<&'a Path>,
    /// Who knows of pipelines.
    pub(super) judge_camera: Option<CameraJudge>,
    /// Who knows what can be named.
    pub(super) judge: Option<Judge>,
    /// systemd's `$STATE_DIRECTORY`.
    pub(super) state: Option<&'a Path>,
}

/// Judges `raw`. A `Config` always comes out; it is good for nothing if there are problems in `layers` afterwards.
pub(super) fn apply(raw: Raw, layers: &mut Layers, machine: &Machine<'_>) -> Config {
    let mut rules = Rules { layers, machine };
    let node = Node { name: given(raw.node.name).unwrap_or_else(|| validators::node_name(&machine.host)) };
    let mqtt = rules.mqtt(raw.mqtt, &node);
    let outbox = rules.outbox(raw.outbox);
    let mut labels = Vec::new();
    for (name, camera) in &raw.cameras {
        labels.push((format!("cameras.{name}.labels"), camera.labels.clone()));
        let of_region = |(region, typed): (&String, &raw::Region)| {
            (format!("cameras.{name}.regions.{region}.labels"), typed.labels.clone())
        };
        labels.extend(camera.regions.iter().map(of_region));
    }
    let cameras: Vec<Camera> =
        raw.cameras.into_iter().filter_map(|(name, camera)| rules.camera(name, camera)).collect();
    let none_was_meant = !rules.layers.origins.keys().any(|key| key.starts_with("cameras."));
    if none_was_meant {
        let warning =
            "No camera is configured: give one in a section [cameras.NAME], such as source = \"test://\"";
        rules.layers.warnings.push(warning.into());
    }
    let pictures = Pictures {
        directory: given(raw.pictures.directory)
            .map(PathBuf::from)
            .or_else(|| machine.state.map(|state| state.join("pictures")))
            .filter(|_| raw.pictures.max_mib > 0),
        max_bytes: raw.pictures.max_mib << 20,
        max_age: raw.pictures.max_age.0,
        quality: raw.pictures.quality,
        publish: raw.pictures.publish,
    };
    let web = rules.web(&raw.web);
    let config = Config {
        node,
        log: Log { level: raw.log.level },
        mqtt,
        outbox,
        commands: Commands { accept: raw.commands.accept },
        engine: Engine {
            network: Network {
                model: given(raw.engine.model).map(PathBuf::from),
                labels: given(raw.engine.labels).map(PathBuf::from),
                engine: engine::Choice::of_name(&raw.engine.name).unwrap_or_default(),
                kernels: engine::KernelSet::of_name(&raw.engine.kernels),
            },
            workers: if raw.engine.workers == 0 { machine.cores } else { raw.engine.workers },
        },
        detections: Detections { top: raw.detections.top },
        objects: Objects {
            score: raw.objects.score as f32,
            max_inferences_per_frame: raw.objects.max_inferences_per_frame,
            margin: raw.objects.margin,
            reclassify_after: raw.objects.reclassify_after.0,
            confirm: raw.objects.confirm.0,
            lost_after: raw.objects.lost_after.0,
            absorb_after: raw.objects.absorb_after.0,
            settled_after: raw.objects.settled_after.0,
        },
        pictures,
        groups: rules.layers.groups.clone(),
        stats: Stats { interval: raw.stats.interval.0 },
        homeassistant: HomeAssistant {
            discovery: raw.homeassistant.discovery,
            prefix: raw.homeassistant.prefix,
        },
        frigate: Frigate { events: raw.frigate.events, topic: raw.frigate.topic },
        web,
        cameras,
    };
    rules.objects(&config.objects);
    // Of cameras that are left out, too: all that is wrong is told at once.
    let naming = Naming { network: &config.engine.network, groups: &config.groups, labels: &labels };
    for (key, rule) in machine.judge.map(|judge| judge(&naming)).unwrap_or_default() {
        if !rules.is_broken(&key) {
            rules.problem(&key, rule);
        }
    }
    config
}

/// An empty text is as good as the key left out.
pub(super) fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Whether polygons leave nothing of the picture, as far as a coarse look tells.
fn covers_everything(polygons: &[raw::Corners]) -> bool {
    const STEPS: usize = 64;
    let middle = |step: usize| (step as f64 + 0.5) / STEPS as f64;
    let polygons: Vec<Polygon> = polygons.iter().cloned().map(Polygon).collect();
    let mut points = (0..STEPS * STEPS).map(|i| (middle(i % STEPS), middle(i / STEPS)));
    points.all(|point| polygons.iter().any(|polygon| polygon.contains(point)))
}

/// The layers, to say what is wrong with them, and the machine.
pub(super) struct Rules<'a> {
    pub(super) layers: &'a mut Layers,
    pub(super) machine: &'a Machine<'a>,
}

impl Rules<'_> {
    fn mqtt(&mut self, typed: raw::Mqtt, node: &Node) -> Mqtt {
        let login = login::choose(
            self,
            "mqtt",
            Typed { user: typed.user, password: typed.password, password_file: typed.password_file },
            None,
            "mqtt-password",
        );
        let ca_file = given(typed.ca_file).map(PathBuf::from);
        if ca_file.is_some() && !typed.tls && !self.is_broken("mqtt.tls") {
            self.problem("mqtt.ca_file", "needs mqtt.tls = true");
        }
        let (cert_file, key_file) = (given(typed.cert_file), given(typed.key_file));
        for (key, is_given) in [
            ("mqtt.cert_file", cert_file.is_some()),
            ("mqtt.key_file", key_file.is_some()),
            ("mqtt.alpn", !typed.alpn.is_empty()),
        ] {
            if is_given && !typed.tls && !self.is_broken("mqtt.tls") {
                self.problem(key, "needs mqtt.tls = true");
            }
        }
        let identity = match (cert_file, key_file) {
            (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
            (None, None) => None,
            (Some(_), None) => {
                self.problem("mqtt.cert_file", "needs mqtt.key_file, the key that it belongs to");
                None
            }
            (None, Some(_)) => {
                self.problem("mqtt.key_file", "needs mqtt.cert_file, the certificate that it belongs to");
                None
            }
        };
        let mut brokers = vec![Broker { host: typed.host, port: typed.port }];
        for fallback in &typed.fallbacks {
            match validators::broker(fallback, typed.port) {
                Ok((host, port)) => brokers.push(Broker { host, port }),
                Err(rule) => self.problem("mqtt.fallbacks", format!("{fallback:?} {rule}")),
            }
        }
        Mqtt {
            brokers,
            base_topic: typed.base_topic,
            client_id: given(typed.client_id).unwrap_or_else(|| format!("camfire-{}", node.name)),
            login,
            keep_alive: typed.keep_alive.0,
            connect_timeout: typed.connect_timeout.0,
            tls: typed.tls.then_some(Tls { ca_file, identity, alpn: typed.alpn }),
            max_packet_bytes: typed.max_packet_kib << 10,
        }
    }

    fn objects(&mut self, objects: &Objects) {
        const WHY: &str = "or else everything belongs to the scene before it is told of";
        let (confirm, absorb) = ("objects.confirm", "objects.absorb_after");
        if objects.confirm < objects.absorb_after || self.is_broken(confirm) || self.is_broken(absorb) {
            return;
        }
        let told = |key, than, limit| {
            format!("must be {than} than {key} ({}), {WHY}", humantime::format_duration(limit))
        };
        // At the key that was given.
        if self.layers.origins.contains_key(confirm) {
            self.problem(confirm, told(absorb, "shorter", objects.absorb_after));
        } else {
            self.problem(absorb, told(confirm, "longer", objects.confirm));
        }
    }

    fn outbox(&mut self, typed: raw::Outbox) -> Outbox {
        const KINDS: [&str; 2] = ["detections", "stats"];
        for kind in typed.durable_kinds.iter().filter(|kind| !KINDS.contains(&kind.as_str())) {
            let rule = format!("{kind:?} is none of {}; all others that can be kept are", KINDS.join(", "));
            self.problem("outbox.durable_kinds", rule);
        }
        Outbox {
            file: given(typed.file)
                .map(PathBuf::from)
                .or_else(|| self.machine.state.map(|state| state.join("outbox.db"))),
            durability: typed.durability,
            max_messages: typed.max_messages,
            max_bytes: typed.max_mib << 20,
            max_age: typed.max_age.0,
            replay: typed.replay.0,
            durable_kinds: typed.durable_kinds,
        }
    }

    fn web(&mut self, typed: &raw::Web) -> Web {
        // A refused text does not count.
        let listen = typed.listen.parse::<SocketAddr>().ok();
        let is_open = listen.is_some_and(|address| !address.ip().to_canonical().is_loopback());
        if is_open
            && !typed.allow_remote
            && !["web.listen", "web.allow_remote"].iter().any(|key| self.is_broken(key))
        {
            self.problem(
                "web.listen",
                "is not a loopback address, such as 127.0.0.1 or ::1: whoever reaches it would see everything, without a \
                 password; web.allow_remote = true allows that",
            );
        }
        Web { listen }
    }

    /// `None` when it cannot be said what the camera is; why is among the problems then.
    fn camera(&mut self, name: String, typed: raw::Camera) -> Option<Camera> {
        let section = format!("cameras.{name}");
        let key = |key: &str| format!("{section}.{key}");
        if self.is_broken(&key("source")) {
            return None;
        }
        if typed.source.is_empty() {
            self.problem(&key("source"), format!("is needed: {}, or \"custom\"", source::KINDS));
            return None;
        }
        let address = source::parse(&typed.source).ok()?;
        if !matches!(address, Address::File(_)) {
            self.only_for(&[key("loop"), key("realtime")], "is only for file:// sources");
        }
        let takes_login = matches!(address, Address::Rtsp { .. } | Address::Http { .. } | Address::Custom);
        if !takes_login {
            let login = [key("user"), key("password"), key("password_file")];
            self.only_for(&login, "is only for rtsp://, rtsps://, http://, https:// and \"custom\" sources");
        }
        if address == Address::Custom {
            self.only_from_root(&key("launch"));
        }
        let launch = given(typed.launch);
        match (&address, &launch) {
            (Address::Custom, None) if !self.is_broken(&key("launch")) => {
                self.problem(
                    &key("launch"),
                    "is needed with source = \"custom\": a launch line that ends in raw video",
                );
            }
            (Address::Custom, _) | (_, None) => {}
            (_, Some(_)) => self.problem(&key("launch"), "is only for source = \"custom\""),
        }
        let (source, from_url) = match address {
            Address::Rtsp { url, login } => (Source::Rtsp { url }, login),
            Address::Http { url, login } => (Source::Http { url }, login),
            Address::Libcamera(name) => (Source::Libcamera { name }, None),
            Address::Csi(sensor) => (Source::Csi { sensor }, None),
            Address::V4l2(device) => (Source::V4l2 { device }, None),
            Address::File(path) => {
                (Source::File { path, repeat: typed.repeat, realtime: typed.realtime }, None)
            }
            Address::Test { pattern } => (Source::Test { pattern }, None),
            Address::Custom => (Source::Custom { launch: launch.unwrap_or_default() }, None),
        };
        let keys = Typed { user: typed.user, password: typed.password, password_file: typed.password_file };
        let login = takes_login
            .then(|| login::choose(self, &section, keys, from_url, &format!("camera-{name}-password")))
            .flatten();
        let snapshot_source = self.snapshot_source(&key("snapshot_source"), &typed.snapshot_source, &source);
        let rotation = Rotation::of_degrees(typed.rotate);
        if rotation.is_none() && !self.is_broken(&key("rotate")) {
            self.problem(&key("rotate"), "must be 0, 90, 180 or 270");
        }
        if covers_everything(&typed.masks) {
            self.warn(&key("masks"), "they cover the whole picture: nothing will be seen");
        }
        let camera = Camera {
            name,
            source,
            snapshot_source,
            pipeline: Some(typed.pipeline).filter(|name| !name.is_empty() && name != AUTO),
            options: typed.options,
            rate_fps: typed.rate_fps,
            decode: typed.decode,
            keyframe_limit: typed.keyframe_limit.0,
            rotation: rotation.unwrap_or_default(),
            motion: Motion {
                threshold: typed.motion_threshold,
                memory: typed.motion_memory.0,
                min_size: typed.min_size,
            },
            masks: typed.masks,
            zones: typed.zones,
            regions: typed.regions.into_iter().map(|(name, region)| self.region(name, region)).collect(),
            labels: typed.labels,
            heatmap: typed.heatmap,
            stall_timeout: typed.stall_timeout.0,
            first_frame_timeout: typed.first_frame_timeout.0,
            max_backoff: typed.max_backoff.0,
            login,
        };
        let is_sound = !["pipeline", "options"].iter().any(|name| self.is_broken(&key(name)));
        for (name, rule) in
            self.machine.judge_camera.filter(|_| is_sound).map(|judge| judge(&camera)).unwrap_or_default()
        {
            self.problem(&key(&name), rule);
        }
        Some(camera)
    }

    fn region(&self, name: String, typed: raw::Region) -> Region {
        // A part of another form was refused and does not count.
        let [left, top, width, height] = typed.part.try_into().unwrap_or([0.0, 0.0, 1.0, 1.0]);
        Region {
            name,
            left,
            top,
            width,
            height,
            every: typed.every.0,
            hold: typed.hold.0,
            score: typed.score as f32,
            labels: typed.labels,
        }
    }

    /// The stream for single pictures: one of the same camera, so it shares user and password.
    fn snapshot_source(&mut self, key: &str, typed: &str, source: &Source) -> Option<Source> {
        if typed.is_empty() || self.is_broken(key) {
            return None;
        }
        let (snapshot, login) = match source::parse(typed).ok()? {
            Address::Rtsp { url, login } => (Source::Rtsp { url }, login),
            Address::Http { url, login } => (Source::Http { url }, login),
            _ => {
                self.problem(
                    key,
                    "must be another stream of the camera: rtsp://, rtsps://, http:// or https://",
                );
                return None;
            }
        };
        if login.is_some() {
            self.problem(key, "must be without user and password: those of the camera are used");
            return None;
        }
        if !matches!(source, Source::Rtsp { .. } | Source::Http { .. }) {
            self.problem(key, "is only for cameras whose source is rtsp://, rtsps://, http:// or https://");
            return None;
        }
        Some(snapshot)
    }

    /// A launch line starts any element there is: it may only come from whoever owns the machine.
    fn only_from_root(&mut self, key: &str) {
        let Some(origin) = self.layers.origins.get(key).filter(|origin| !origin.is_broken) else { return };
        let rule = match &origin.place {
            Place::File { name, .. } => match std::fs::metadata(name) {
                Ok(file) if file.uid() != 0 => "may only be given in a file that belongs to root",
                Ok(file) if file.mode() & 0o022 != 0 => {
                    "may only be given in a file that nobody but root can write (chmod go-w)"
                }
                // Text in the binary has no file.
                _ => return,
            },
            Place::Environment(_) | Place::Flag => "may only be given in a config file that belongs to root",
            Place::Nowhere => return,
        };
        self.problem(key, rule);
    }

    fn only_for(&mut self, keys: &[String], rule: &str) {
        for key in keys {
            // `user = ""` says nothing; `loop = true` does, although it is the default.
            let is_given =
                self.layers.origins.get(key).is_some_and(|origin| !origin.is_broken && !origin.is_empty);
            if is_given {
                self.problem(key, rule);
            }
        }
    }

    /// The value was refused, which has been said.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.layers.origins.get(key).is_some_and(|origin| origin.is_broken)
    }

    /// Adds a problem of `key`, at its value or, when it is missing, at its section.
    pub(super) fn problem(&mut self, key: &str, rule: impl Into<String>) {
        let (place, value) = self.origin(key);
        self.layers.problems.push(Problem { place, key: key.into(), value, rule: rule.into() });
    }

    /// Adds a warning about `key`.
    pub(super) fn warn(&mut self, key: &str, text: &str) {
        let (place, value) = self.origin(key);
        let about = Problem { place, key: key.into(), value, rule: text.into() };
        self.layers.warnings.push(about.to_string());
    }

    fn origin(&self, key: &str) -> (Place, Option<String>) {
        let origins = &self.layers.origins;
        let section = || key.rsplit_once('.').and_then(|(section, _)| origins.get(section));
        match (origins.get(key), section()) {
            (Some(origin), _) => (origin.place.clone(), origin.shown.clone()),
            // A flag is told with its value, and this key has none.
            (None, Some(origin)) if origin.place != Place::Flag => (origin.place.clone(), None),
            (None, _) => (Place::Nowhere, None),
        }
    }
}
