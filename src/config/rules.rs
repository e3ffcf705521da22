//! Converts the merged values to a [`Config`]: the rules between keys, and the defaults that depend on the
//! machine.
//!
//! Each value has been checked by itself already. A key whose own value was rejected is exempt from these
//! rules, so that one mistake is one problem. All problems are collected; the caller must check for them
//! before it uses the `Config`.

use super::{
    duration,
    inputs::{CameraValidator, Naming, Validator},
    key::AUTO,
    layers::Layers,
    login::{self, LoginKeys},
    polygon::Polygon,
    problems::Location,
    raw::{self, Raw, non_empty},
    source::{self, Address},
    types::{
        Broker, Camera, Commands, Config, Detections, Detector, Engine, Everyday, Frigate, HomeAssistant,
        Log, Motion, Mqtt, Network, Node, Objects, Outbox, Pictures, Region, Rotation, Source, Stats, Tls,
        Web,
    },
    validators,
    web_certificate::{self, WebCertificate},
    web_passwords::WebPasswords,
};
use ipnet::IpNet;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Properties of the machine, for defaults.
pub(super) struct Host<'a> {
    /// The host name.
    pub(super) name: String,
    /// Number of CPU cores available to this process.
    pub(super) cores: usize,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub(super) credentials: Option<&'a Path>,
    /// systemd's `$STATE_DIRECTORY`.
    pub(super) state: Option<&'a Path>,
}

/// Converts `raw` to a `Config`. Problems are added to `layers`; if there are any, the `Config` must not be
/// used.
pub(super) fn apply(
    raw: Raw,
    layers: &mut Layers,
    host: &Host<'_>,
    validate_camera: Option<CameraValidator>,
    validate: Option<Validator>,
) -> Config {
    let mut rules = Rules { layers, host, validate_camera, score: raw.objects.score as f32 };
    let node = Node { name: non_empty(raw.node.name).unwrap_or_else(|| validators::node_name(&host.name)) };
    let mqtt = rules.mqtt(raw.mqtt, &node);
    let outbox = rules.outbox(raw.outbox);
    let commands = rules.commands(raw.commands, &outbox);
    let mut labels = Vec::new();
    for (name, camera) in &raw.cameras {
        labels.push((format!("cameras.{name}.labels"), camera.labels.clone()));
        let of_region = |(region, raw): (&String, &raw::Region)| {
            (format!("cameras.{name}.regions.{region}.labels"), raw.labels.clone())
        };
        labels.extend(camera.regions.iter().map(of_region));
    }
    let cameras: Vec<Camera> =
        raw.cameras.into_iter().filter_map(|(name, camera)| rules.camera(name, camera)).collect();
    let has_no_cameras = !rules.layers.origins.keys().any(|key| key.starts_with("cameras."));
    if has_no_cameras {
        let warning = "No camera is configured, so there is nothing to do: add a section [cameras.NAME] with a source, \
                       such as source = \"test://\", then run 'camfire check' and 'systemctl reload camfire'";
        rules.layers.warnings.push(warning.into());
    }
    let pictures = Pictures {
        directory: non_empty(raw.pictures.directory)
            .map(PathBuf::from)
            .or_else(|| host.state.map(|state| state.join("pictures")))
            .filter(|_| raw.pictures.max_mib > 0),
        max_bytes: raw.pictures.max_mib << 20,
        max_age: raw.pictures.max_age.0,
        quality: raw.pictures.quality,
        publish: raw.pictures.publish,
    };
    let web = rules.web(&raw.web, &outbox);
    let config = Config {
        node,
        log: Log { level: raw.log.level },
        mqtt,
        outbox,
        commands,
        engine: Engine {
            network: Network {
                model: non_empty(raw.engine.model).map(PathBuf::from),
                labels: non_empty(raw.engine.labels).map(PathBuf::from),
                everyday: rules.everyday(raw.engine.everyday_head, raw.engine.everyday_model),
                detector: rules.detector(raw.engine.detector),
                engine: engine::Choice::of_name(&raw.engine.name).unwrap_or_default(),
                kernels: engine::KernelSet::of_name(&raw.engine.kernels),
            },
            workers: if raw.engine.workers == 0 { host.cores } else { raw.engine.workers },
        },
        detections: Detections { top: raw.detections.top },
        objects: Objects {
            score: raw.objects.score as f32,
            inference_budget: raw.objects.inference_budget.0,
            margin: raw.objects.margin,
            reclassify_after: raw.objects.reclassify_after.0,
            confirm: raw.objects.confirm.0,
            name_within: raw.objects.name_within.0,
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
            max_event_age: raw.homeassistant.max_event_age.0,
        },
        frigate: Frigate { events: raw.frigate.events, topic: raw.frigate.topic },
        web,
        cameras,
    };
    rules.objects(&config.objects);
    // The labels include those of invalid cameras, so that all problems are reported at once.
    let naming = Naming { network: &config.engine.network, groups: &config.groups, labels: &labels };
    let findings = validate.map(|validate| validate(&naming)).unwrap_or_default();
    for (key, rule) in findings.problems {
        if !rules.layers.is_broken(&key) {
            rules.layers.add_problem(&key, rule);
        }
    }
    for (key, text) in findings.warnings {
        rules.layers.add_warning(&key, &text);
    }
    config
}

/// Whether the polygons together cover the whole image, tested on a grid of points.
fn cover_everything(polygons: &[raw::Corners]) -> bool {
    const STEPS: usize = 64;
    let center = |step: usize| (step as f64 + 0.5) / STEPS as f64;
    let polygons: Vec<Polygon> = polygons.iter().cloned().map(Polygon).collect();
    let mut points = (0..STEPS * STEPS).map(|i| (center(i % STEPS), center(i / STEPS)));
    points.all(|point| polygons.iter().any(|polygon| polygon.contains(point)))
}

/// What the rules of each section need.
struct Rules<'a> {
    /// Origins of the values; problems and warnings are added here.
    layers: &'a mut Layers,
    host: &'a Host<'a>,
    validate_camera: Option<CameraValidator>,
    /// `objects.score`.
    score: f32,
}

impl Rules<'_> {
    /// Path of a file in systemd's credentials directory.
    fn credential(&self, name: &str) -> Option<PathBuf> {
        self.host.credentials.map(|directory| directory.join(name))
    }

    fn mqtt(&mut self, raw: raw::Mqtt, node: &Node) -> Mqtt {
        let keys = LoginKeys { user: raw.user, password: raw.password, password_file: raw.password_file };
        let login = login::read(self.layers, "mqtt", keys, None, self.credential("mqtt-password").as_deref());
        let ca_file = non_empty(raw.ca_file).map(PathBuf::from);
        if ca_file.is_some() && !raw.tls && !self.layers.is_broken("mqtt.tls") {
            self.layers.add_problem("mqtt.ca_file", "requires mqtt.tls = true");
        }
        let (cert_file, key_file) = (non_empty(raw.cert_file), non_empty(raw.key_file));
        for (key, is_set) in [
            ("mqtt.cert_file", cert_file.is_some()),
            ("mqtt.key_file", key_file.is_some()),
            ("mqtt.alpn", !raw.alpn.is_empty()),
        ] {
            if is_set && !raw.tls && !self.layers.is_broken("mqtt.tls") {
                self.layers.add_problem(key, "requires mqtt.tls = true");
            }
        }
        let identity = match (cert_file, key_file) {
            (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
            (None, None) => None,
            (Some(_), None) => {
                self.layers.add_problem("mqtt.cert_file", "requires mqtt.key_file, its private key");
                None
            }
            (None, Some(_)) => {
                self.layers.add_problem("mqtt.key_file", "requires mqtt.cert_file, its certificate");
                None
            }
        };
        let mut brokers = vec![Broker { host: raw.host, port: raw.port }];
        for fallback in &raw.fallbacks {
            match validators::broker(fallback, raw.port) {
                Ok((host, port)) => brokers.push(Broker { host, port }),
                Err(rule) => self.layers.add_problem("mqtt.fallbacks", format!("{fallback:?} {rule}")),
            }
        }
        Mqtt {
            brokers,
            base_topic: raw.base_topic,
            client_id: non_empty(raw.client_id).unwrap_or_else(|| format!("camfire-{}", node.name)),
            login,
            keep_alive: raw.keep_alive.0,
            connect_timeout: raw.connect_timeout.0,
            tls: raw.tls.then_some(Tls { ca_file, identity, alpn: raw.alpn }),
            max_packet_bytes: raw.max_packet_kib << 10,
        }
    }

    fn detector(&mut self, detector: String) -> Detector {
        match detector.as_str() {
            "motion" => Detector::Motion,
            "squeezenet" => Detector::BuiltIn,
            file if file.ends_with(".tflite") => Detector::File(file.into()),
            _ => {
                let rule = "must be \"motion\", \"squeezenet\" or a .tflite file";
                self.layers.add_problem("engine.detector", rule);
                Detector::Motion
            }
        }
    }

    fn everyday(&mut self, head: String, model: String) -> Everyday {
        let everyday = match head.as_str() {
            "" => Everyday::BuiltIn,
            "off" => Everyday::Off,
            file => Everyday::Head { head: file.into(), model: non_empty(model.clone()).map(PathBuf::from) },
        };
        if !model.is_empty() && !matches!(everyday, Everyday::Head { .. }) {
            let rule = "requires engine.everyday_head, the head file that was made for this network";
            self.layers.add_problem("engine.everyday_model", rule);
        }
        everyday
    }

    fn objects(&mut self, objects: &Objects) {
        const REASON: &str = "because objects would otherwise become background before they are published";
        let (confirm, absorb) = ("objects.confirm", "objects.absorb_after");
        if objects.confirm < objects.absorb_after
            || self.layers.is_broken(confirm)
            || self.layers.is_broken(absorb)
        {
            return;
        }
        let rule = |comparison, key, limit| {
            format!("must be {comparison} than {key} ({}), {REASON}", duration::format(limit))
        };
        // Reported at the key that was set.
        if self.layers.origins.contains_key(confirm) {
            self.layers.add_problem(confirm, rule("shorter", absorb, objects.absorb_after));
        } else {
            self.layers.add_problem(absorb, rule("longer", confirm, objects.confirm));
        }
    }

    fn commands(&mut self, raw: raw::Commands, outbox: &Outbox) -> Commands {
        let given = non_empty(raw.settings_file).map(PathBuf::from);
        let settings_file = given.or_else(|| self.state_file("settings.json", outbox));
        Commands { accept: raw.accept, settings_file }
    }

    fn outbox(&mut self, raw: raw::Outbox) -> Outbox {
        const KINDS: [&str; 2] = ["detections", "stats"];
        for kind in raw.durable_kinds.iter().filter(|kind| !KINDS.contains(&kind.as_str())) {
            let rule = format!(
                "{kind:?} is not one of {}; all other kinds that can be durable are always durable",
                KINDS.join(", ")
            );
            self.layers.add_problem("outbox.durable_kinds", rule);
        }
        Outbox {
            file: non_empty(raw.file)
                .map(PathBuf::from)
                .or_else(|| self.host.state.map(|state| state.join("outbox.db"))),
            durability: raw.durability,
            max_messages: raw.max_messages,
            max_bytes: raw.max_mib << 20,
            max_age: raw.max_age.0,
            replay: raw.replay.0,
            durable_kinds: raw.durable_kinds,
        }
    }

    fn web(&mut self, raw: &raw::Web, outbox: &Outbox) -> Web {
        // A rejected value has been reported already.
        let listen = raw.listen.parse::<SocketAddr>().ok();
        let passwords = self.web_passwords(&raw.password_file);
        let is_remote = listen.is_some_and(|address| !address.ip().to_canonical().is_loopback());
        if is_remote
            && passwords.is_none()
            && !raw.allow_remote
            && !["web.listen", "web.allow_remote", "web.password_file"]
                .iter()
                .any(|key| self.layers.is_broken(key))
        {
            self.layers.add_problem(
                "web.listen",
                "is not a loopback address such as 127.0.0.1 or ::1, and there is no password: run 'sudo camfire \
                 web-password' and set web.password_file; or set web.allow_remote = true to serve only metrics and \
                 the health check, to anyone",
            );
        }
        for host in &raw.hosts {
            if let Err(rule) = validators::host(host)
                && !self.layers.is_broken("web.hosts")
            {
                self.layers.add_problem("web.hosts", format!("has {host:?}, which {rule}"));
            }
        }
        // A host name may be a full one, and mDNS publishes the first part below `.local`.
        let own = self.host.name.split('.').next().unwrap_or_default();
        let own = [self.host.name.clone(), own.to_string(), format!("{own}.local")];
        let hosts = own.iter().filter(|name| !name.starts_with('.') && !name.is_empty()).chain(&raw.hosts);
        let mut hosts: Vec<String> =
            hosts.map(|host| host.trim_end_matches('.').to_ascii_lowercase()).collect();
        let public_url = self.public_url(&raw.public_url, listen, passwords.is_some()).map(|(url, host)| {
            hosts.push(host.trim_end_matches('.').to_ascii_lowercase());
            url
        });
        hosts.sort();
        hosts.dedup();
        let link_key_file = self.state_file("link.key", outbox);
        let certificate = self.web_certificate(&raw.cert_file, &raw.key_file);
        let trusted_proxies = self.trusted_proxies(&raw.trusted_proxies, passwords.is_some());
        Web {
            listen,
            passwords,
            hosts,
            public_url,
            link_key_file,
            certificate,
            trusted_proxies,
            preview_bytes: raw.preview_mib << 20,
        }
    }

    /// `web.public_url` and its host. None if there is no page that it could lead to.
    fn public_url(
        &mut self,
        text: &str,
        listen: Option<SocketAddr>,
        has_password: bool,
    ) -> Option<(String, String)> {
        const KEY: &str = "web.public_url";
        // A rejected value has been reported already.
        let (url, host) = validators::public_url(text).ok().filter(|_| !text.is_empty())?;
        let is_local = listen.is_some_and(|address| address.ip().to_canonical().is_loopback());
        if !has_password && !is_local {
            let warning = match listen {
                None => "has no effect without web.listen: there is no page",
                Some(_) => "has no effect without a password: only metrics and the health check are served",
            };
            self.layers.add_warning(KEY, warning);
            return None;
        }
        let is_host_local = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        if !has_password && !is_host_local {
            self.layers.add_warning(
                KEY,
                "is not a loopback address, and there is no password: everybody who reaches the page may do \
                 everything on it; run 'sudo camfire web-password' and set web.password_file",
            );
        }
        Some((url.to_string(), host))
    }

    /// A file in the state directory, or beside the outbox if there is no such directory.
    fn state_file(&self, name: &str, outbox: &Outbox) -> Option<PathBuf> {
        let beside_outbox = || outbox.file.as_ref().map(|file| file.with_file_name(name));
        self.host.state.map(|state| state.join(name)).or_else(beside_outbox)
    }

    /// The certificate of the web server and its key, each in the file that its key names, or in systemd's
    /// credentials `web-cert` and `web-key`.
    fn web_certificate(&mut self, cert_file: &str, key_file: &str) -> Option<WebCertificate> {
        const CERT: &str = "web.cert_file";
        const KEY: &str = "web.key_file";
        if self.layers.is_broken(CERT) || self.layers.is_broken(KEY) {
            return None;
        }
        let path = |named: &str, credential: &str| {
            let credential = self.credential(credential).filter(|path| path.exists());
            non_empty(named.to_string()).map(PathBuf::from).or(credential)
        };
        match (path(cert_file, "web-cert"), path(key_file, "web-key")) {
            (Some(cert), Some(key)) => web_certificate::read(self.layers, (CERT, &cert), (KEY, &key)),
            (Some(_), None) => {
                self.layers.add_problem(CERT, "requires web.key_file, its private key");
                None
            }
            (None, Some(key)) => {
                let rule = format!("{}: requires web.cert_file, its certificate", key.display());
                self.layers.add_problem(KEY, rule);
                None
            }
            (None, None) => None,
        }
    }

    /// The reverse proxies that are believed whom they speak for.
    fn trusted_proxies(&mut self, texts: &[String], has_passwords: bool) -> Vec<IpNet> {
        const KEY: &str = "web.trusted_proxies";
        if self.layers.is_broken(KEY) || self.layers.is_broken("web.password_file") {
            return Vec::new();
        }
        if !texts.is_empty() && !has_passwords {
            self.layers.add_problem(
                KEY,
                "requires a password, because everyone behind the proxy would otherwise be an admin: run 'sudo \
                 camfire web-password' and set web.password_file",
            );
        }
        let mut proxies = Vec::new();
        for text in texts {
            match validators::network(text) {
                Ok(network) => proxies.push(network),
                Err(rule) => self.layers.add_problem(KEY, format!("has {text:?}, which {rule}")),
            }
        }
        proxies
    }

    /// The passwords of the web server: in `web.password_file`, or in systemd's credential `web-passwords`.
    fn web_passwords(&mut self, file: &str) -> Option<WebPasswords> {
        const KEY: &str = "web.password_file";
        if self.layers.is_broken(KEY) {
            return None;
        }
        let credential = self.credential("web-passwords").filter(|path| path.exists());
        let path = non_empty(file.to_string()).map(PathBuf::from).or(credential)?;
        let read = login::read_password(&path).map_err(|error| format!("cannot be read: {error}"));
        let parsed = read.and_then(|text| {
            let passwords = WebPasswords::parse(&text)?;
            if passwords.is_empty() {
                Err("has no password; run camfire web-password".to_string())
            } else {
                Ok(passwords)
            }
        });
        match parsed {
            Ok(passwords) => Some(passwords),
            Err(rule) => {
                self.layers.add_problem(KEY, format!("{}: {rule}", path.display()));
                None
            }
        }
    }

    /// Returns None if the camera has no valid source, which is then among the problems.
    fn camera(&mut self, name: String, raw: raw::Camera) -> Option<Camera> {
        let section = format!("cameras.{name}");
        let key = |key: &str| format!("{section}.{key}");
        if self.layers.is_broken(&key("source")) {
            return None;
        }
        if raw.source.is_empty() {
            self.layers
                .add_problem(&key("source"), format!("is required: {}, or \"custom\"", source::SCHEME_LIST));
            return None;
        }
        let address = source::parse(&raw.source).ok()?;
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
        let launch = non_empty(raw.launch);
        match (&address, &launch) {
            (Address::Custom, None) if !self.layers.is_broken(&key("launch")) => {
                self.layers.add_problem(
                    &key("launch"),
                    "is required with source = \"custom\": a launch line that ends in raw video",
                );
            }
            (Address::Custom, _) | (_, None) => {}
            (_, Some(_)) => self.layers.add_problem(&key("launch"), "is only for source = \"custom\""),
        }
        let (source, from_url) = match address {
            Address::Rtsp { url, login } => (Source::Rtsp { url }, login),
            Address::Http { url, login } => (Source::Http { url }, login),
            Address::Libcamera(name) => (Source::Libcamera { name }, None),
            Address::Csi(sensor) => (Source::Csi { sensor }, None),
            Address::V4l2(device) => (Source::V4l2 { device }, None),
            Address::File(path) => (Source::File { path, repeat: raw.repeat, realtime: raw.realtime }, None),
            Address::Test { pattern } => (Source::Test { pattern }, None),
            Address::Custom => (Source::Custom { launch: launch.unwrap_or_default() }, None),
        };
        let keys = LoginKeys { user: raw.user, password: raw.password, password_file: raw.password_file };
        let login = takes_login
            .then(|| {
                let credential = self.credential(&format!("camera-{name}-password"));
                login::read(self.layers, &section, keys, from_url, credential.as_deref())
            })
            .flatten();
        let snapshot_source = self.snapshot_source(&key("snapshot_source"), &raw.snapshot_source, &source);
        let rotation = Rotation::of_degrees(raw.rotate);
        if rotation.is_none() && !self.layers.is_broken(&key("rotate")) {
            self.layers.add_problem(&key("rotate"), "must be 0, 90, 180 or 270");
        }
        if cover_everything(&raw.masks) {
            self.layers
                .add_warning(&key("masks"), "the masks cover the whole image, so nothing will be detected");
        }
        let camera = Camera {
            name,
            source,
            snapshot_source,
            pipeline: Some(raw.pipeline).filter(|name| !name.is_empty() && name != AUTO),
            options: raw.options,
            rate_fps: raw.rate_fps,
            decode: raw.decode,
            keyframe_limit: raw.keyframe_limit.0,
            rotation: rotation.unwrap_or_default(),
            motion: Motion {
                threshold: raw.motion_threshold,
                memory: raw.motion_memory.0,
                min_size: raw.min_size,
            },
            masks: raw.masks,
            score: raw.score.0.map_or(self.score, |score| score as f32),
            zones: raw.zones,
            regions: raw.regions.into_iter().map(|(name, region)| self.region(name, region)).collect(),
            labels: raw.labels,
            heatmap: raw.heatmap,
            view_every: raw.view_every.0,
            area: non_empty(raw.area),
            stall_timeout: raw.stall_timeout.0,
            first_frame_timeout: raw.first_frame_timeout.0,
            max_backoff: raw.max_backoff.0,
            login,
        };
        let is_valid = !["pipeline", "options"].iter().any(|name| self.layers.is_broken(&key(name)));
        for (name, rule) in
            self.validate_camera.filter(|_| is_valid).map(|validate| validate(&camera)).unwrap_or_default()
        {
            self.layers.add_problem(&key(&name), rule);
        }
        Some(camera)
    }

    fn region(&self, name: String, raw: raw::Region) -> Region {
        // A list of another length has been reported already.
        let [left, top, width, height] = raw.rectangle.try_into().unwrap_or([0.0, 0.0, 1.0, 1.0]);
        Region {
            name,
            left,
            top,
            width,
            height,
            every: raw.every.0,
            hold: raw.hold.0,
            score: raw.score as f32,
            labels: raw.labels,
        }
    }

    /// Returns the stream for snapshots. It belongs to the same camera, so it has the same user name and
    /// password.
    fn snapshot_source(&mut self, key: &str, raw: &str, source: &Source) -> Option<Source> {
        if raw.is_empty() || self.layers.is_broken(key) {
            return None;
        }
        let (snapshot, login) = match source::parse(raw).ok()? {
            Address::Rtsp { url, login } => (Source::Rtsp { url }, login),
            Address::Http { url, login } => (Source::Http { url }, login),
            _ => {
                self.layers.add_problem(
                    key,
                    "must be another stream of the camera: rtsp://, rtsps://, http:// or https://",
                );
                return None;
            }
        };
        if login.is_some() {
            self.layers.add_problem(
                key,
                "must not contain a user name or password, because those of the camera are used",
            );
            return None;
        }
        if !matches!(source, Source::Rtsp { .. } | Source::Http { .. }) {
            self.layers.add_problem(
                key,
                "is only for cameras whose source is rtsp://, rtsps://, http:// or https://",
            );
            return None;
        }
        Some(snapshot)
    }

    /// Requires that root has set `key`: a launch line can start any element, so only the machine's owner may
    /// set it.
    fn only_from_root(&mut self, key: &str) {
        let Some(origin) = self.layers.origins.get(key).filter(|origin| !origin.is_broken) else { return };
        let rule = match &origin.location {
            // Text from the binary has no file.
            Location::File { name, .. } => match self.layers.untrusted.get(name) {
                Some(required) => format!("may only be set in {required}"),
                None => return,
            },
            Location::Environment(_) | Location::Flag => {
                "may only be set in a configuration file that belongs to root".to_string()
            }
            Location::Unset => return,
        };
        self.layers.add_problem(key, rule);
    }

    /// Adds a problem with `rule` for each of the keys that is set.
    fn only_for(&mut self, keys: &[String], rule: &str) {
        for key in keys {
            // `user = ""` means "not set"; `loop = true` is set, although it is the default.
            let is_set =
                self.layers.origins.get(key).is_some_and(|origin| !origin.is_broken && !origin.is_empty);
            if is_set {
                self.layers.add_problem(key, rule);
            }
        }
    }
}
