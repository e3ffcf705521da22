//! The layers of a configuration, lowest first: defaults, main file, `conf.d/*.toml`, environment, flags.
//!
//! Each value is checked in its own layer. Its location is recorded, so that every problem can name the line,
//! the variable or the flag. The `config` crate merges the layers. Environment and flags are passed in; all
//! files except those with passwords are read here, and who can have written them is checked on the opened
//! file.

use super::{
    inputs::{Inputs, Main},
    key::{Key, KeyKind},
    lookup::{Entry, dotted, lookup},
    page,
    problems::{self, Location, Problem},
    raw::{self, Raw},
    renamed::RENAMED,
    service_links,
    suggest::UnknownKey,
};
use crate::files;
use config::{Map, Source};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue, ValueDeserializer},
};

/// The main file, unless another one is given.
pub const MAIN_FILE: &str = "/etc/camfire/camfire.toml";

/// Maximum size of a configuration file.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// Prefix of camfire's environment variables.
const PREFIX: &str = "CAMFIRE_";

/// All layers, and the problems found in them.
#[derive(Default)]
pub(super) struct Layers {
    /// Origin of each effective value, by its dotted key. Cameras and regions have an entry of their own.
    pub(super) origins: BTreeMap<String, Origin>,
    /// The files that were read, lowest layer first.
    pub(super) files: Vec<PathBuf>,
    /// All problems found so far, in any order.
    pub(super) problems: Vec<Problem>,
    /// Warnings for the user, one line each.
    pub(super) warnings: Vec<String>,
    /// The effective `[groups]`, kept apart because paths of the `config` crate cannot contain every group
    /// name. A group whose classes were rejected has no classes here.
    pub(super) groups: BTreeMap<String, Vec<String>>,
    /// Files that others than root can have written, by name: what the file would have to be.
    pub(super) untrusted: BTreeMap<String, String>,
    /// A file could not be read completely, so missing keys must not be reported.
    pub(super) is_incomplete: bool,
    sources: Vec<Layer>,
}

/// Where a value was set, and which.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) location: Location,
    /// The value as written, without secrets. None for cameras and regions.
    pub(super) shown: Option<String>,
    /// The value breaks its own rule, which is among the problems already.
    pub(super) is_broken: bool,
    /// The value is an empty string.
    pub(super) is_empty: bool,
}

/// The valid values of one file, of the environment or of the flags, by dotted key.
#[derive(Debug, Clone, Default)]
struct Layer(Map<String, config::Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layers {
    /// Reads and checks all layers of `inputs`.
    pub(super) fn gather(inputs: &Inputs) -> Layers {
        let mut layers = Layers::default();
        match &inputs.main {
            Main::Text { name, text } => layers.add_text(name, text, None),
            Main::File(path) => {
                layers.add_file(path, true);
                layers.add_directory_next_to(path);
            }
            Main::Default => {
                layers.add_file(Path::new(MAIN_FILE), false);
                layers.add_directory_next_to(Path::new(MAIN_FILE));
            }
        }
        layers.add_page(&inputs.page);
        layers.add_environment(&inputs.environment);
        layers.add_flags(&inputs.flags);
        layers
    }

    /// Merges the layers. Each value is of its key's kind.
    pub(super) fn merge(&self) -> Result<Raw, config::ConfigError> {
        let mut builder = config::Config::builder();
        let mut tables: Vec<(String, &[Key])> = Vec::new();
        for (section, keys) in raw::SECTIONS {
            tables.push((section.to_string(), *keys));
        }
        tables.extend(self.cameras().map(|camera| (format!("cameras.{camera}"), raw::CAMERA)));
        tables.extend(self.regions().into_iter().map(|region| (region, raw::REGION)));
        for (section, keys) in tables {
            for key in keys {
                if let Some(default) = key.default_value() {
                    builder = builder.set_default(format!("{section}.{}", key.name), default)?;
                }
            }
        }
        for layer in &self.sources {
            builder = builder.add_source(layer.clone());
        }
        builder.build()?.try_deserialize()
    }

    /// Reports that the layers could not be merged: the table of keys and the structs below [`Raw`] differ,
    /// which is a bug.
    pub(super) fn add_merge_error(&mut self, error: &config::ConfigError) {
        let rule = format!("cannot be merged, which is a bug in camfire: {error}");
        self.problems.push(Problem {
            location: Location::Unset,
            key: "configuration".into(),
            value: None,
            rule,
        });
    }

    /// Whether the value of this key breaks its own rule.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.origins.get(key).is_some_and(|origin| origin.is_broken)
    }

    /// Adds a problem of `key`, located at its value or, if it has none, at its section.
    pub(super) fn add_problem(&mut self, key: &str, rule: impl Into<String>) {
        let (location, value) = self.origin(key);
        self.problems.push(Problem { location, key: key.into(), value, rule: rule.into() });
    }

    /// Adds a warning about `key`, located like a problem.
    pub(super) fn add_warning(&mut self, key: &str, text: &str) {
        let (location, value) = self.origin(key);
        let about = Problem { location, key: key.into(), value, rule: text.into() };
        self.warnings.push(about.to_string());
    }

    fn origin(&self, key: &str) -> (Location, Option<String>) {
        origin(&self.origins, key)
    }

    fn cameras(&self) -> impl Iterator<Item = &str> {
        self.origins.keys().filter_map(|key| key.strip_prefix("cameras.")).filter(|name| !name.contains('.'))
    }

    /// The sections `cameras.NAME.regions.NAME`.
    fn regions(&self) -> BTreeSet<String> {
        let region = |key: &String| {
            let levels: Vec<&str> = key.split('.').collect();
            (levels.len() >= 4 && levels[0] == "cameras" && levels[2] == "regions")
                .then(|| levels[..4].join("."))
        };
        self.origins.keys().filter_map(region).collect()
    }

    fn add_file(&mut self, path: &Path, must_exist: bool) {
        let read = files::open_regular(path).and_then(|(file, metadata)| {
            let text = String::from_utf8(files::read_open(&file, MAX_FILE_BYTES)?);
            Ok((text.map_err(|_| io::Error::other("it is not UTF-8"))?, metadata))
        });
        match read {
            Ok((text, metadata)) => {
                let name = path.display().to_string();
                if let Err(required) = files::check_trusted(path, &metadata) {
                    self.untrusted.insert(name.clone(), required);
                }
                if let Some(others) = files::changeable_by_others(&metadata) {
                    self.warnings.push(format!("{name}: {others}"));
                }
                self.add_text(&name, &text, Some(metadata.permissions().mode()));
                self.files.push(path.to_path_buf());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
            Err(error) => self.add_file_error(path, &error),
        }
    }

    fn add_directory_next_to(&mut self, main: &Path) {
        let directory = main.with_file_name("conf.d");
        let found = fs::read_dir(&directory).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        });
        match found {
            Ok(mut paths) => {
                let is_hidden =
                    |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
                paths.retain(|path| path.extension().is_some_and(|e| e == "toml") && !is_hidden(path));
                paths.sort();
                for path in paths {
                    self.add_file(&path, true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.add_file_error(&directory, &error),
        }
    }

    /// Adds the settings of the page. They change cameras and regions that exist.
    fn add_page(&mut self, source: &page::Source) {
        let (name, text) = match source {
            page::Source::None => return,
            page::Source::Text(text) => (page::FILE_NAME.to_string(), text.clone()),
            page::Source::File(path) => {
                let bytes = files::read_bounded(path, MAX_FILE_BYTES);
                let text = bytes.and_then(|bytes| {
                    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
                });
                match text {
                    Ok(text) => (path.display().to_string(), text),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                    Err(error) => return self.add_file_error(path, &error),
                }
            }
        };
        let settings = match page::Settings::parse(&text) {
            Ok(settings) => settings,
            Err(rule) => {
                let location = Location::File { layer: self.sources.len(), name, line: None };
                self.problems.push(Problem { location, key: String::new(), value: None, rule });
                self.is_incomplete = true;
                return;
            }
        };
        let known: BTreeSet<String> =
            self.cameras().map(|camera| format!("cameras.{camera}")).chain(self.regions()).collect();
        let is_known = |key: &str| {
            let levels: Vec<&str> = key.split('.').collect();
            let section = if levels.get(2) == Some(&"regions") { 4 } else { 2 };
            known.contains(&levels[..section.min(levels.len())].join("."))
        };
        let before = self.origins.clone();
        // All zones are replaced. Otherwise none of the configuration could be removed.
        for (camera, _) in settings.cameras.iter().filter(|(_, settings)| settings.zones.is_some()) {
            let zones = format!("cameras.{camera}.zones.");
            self.origins.retain(|key, _| !key.starts_with(&zones));
            self.sources.iter_mut().for_each(|layer| layer.0.retain(|key, _| !key.starts_with(&zones)));
        }
        self.add_text(&name, &text, None);
        if let Some(layer) = self.sources.last_mut() {
            layer.0.retain(|key, _| is_known(key));
        }
        self.origins.retain(|key, _| before.contains_key(key) || is_known(key));
    }

    fn add_file_error(&mut self, path: &Path, error: &io::Error) {
        let location =
            Location::File { layer: self.sources.len(), name: path.display().to_string(), line: None };
        let rule = format!("cannot be read: {error}");
        self.problems.push(Problem { location, key: String::new(), value: None, rule });
        self.is_incomplete = true;
    }

    fn add_text(&mut self, name: &str, text: &str, mode: Option<u32>) {
        let mut reader =
            FileReader { layers: self, name, text, mode, layer: Layer::default(), end: text.len() };
        reader.read();
        let layer = reader.layer;
        self.sources.push(layer);
    }

    fn add_environment(&mut self, environment: &[(String, String)]) {
        let mut layer = Layer::default();
        let mut variables: Vec<_> = environment.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        let of_services: Vec<&str> = variables
            .extract_if(.., |(name, value)| service_links::is_service_link(&name[PREFIX.len()..], value))
            .map(|(name, _)| name.as_str())
            .collect();
        if !of_services.is_empty() {
            self.warnings.push(format!(
                "{} (environment): ignored, because container platforms set such variables for their services; \
                 settings are named like CAMFIRE_MQTT__PORT",
                of_services.join(", ")
            ));
        }
        for (name, value) in variables {
            let location = Location::Environment(name.clone());
            let key = name[PREFIX.len()..].to_lowercase();
            if key.starts_with('_') || !key.contains("__") {
                self.check_misnamed_variable(location, &key);
                continue;
            }
            let mut path: Vec<String> = key.split("__").map(str::to_string).collect();
            if let [section, camera, ..] = &mut path[..]
                && section == "cameras"
                && let Some(known) = self.camera_in_environment(camera)
            {
                *camera = known;
            }
            self.add_text_value(&mut layer, &path, value, format!("{value:?}"), location);
        }
        self.sources.push(layer);
    }

    /// Returns the camera that `name` from an environment variable refers to. Variables have neither `-` nor
    /// lower-case letters, but names of cameras may: `FRONT_DOOR` refers to `front-door` if that is the only
    /// camera that it can refer to.
    fn camera_in_environment(&self, name: &str) -> Option<String> {
        let folded = |name: &str| name.to_lowercase().replace('-', "_");
        let mut candidates = self.cameras().filter(|camera| folded(camera) == name);
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Some(only.to_string()),
            _ => None,
        }
    }

    /// Rejects variables such as `CAMFIRE_MQTT_PORT` and `CAMFIRE__MQTT__PORT`, which would otherwise be
    /// ignored. A variable that does not resemble a key is ignored with a warning, because others may set
    /// such variables.
    fn check_misnamed_variable(&mut self, location: Location, key: &str) {
        let words: Vec<&str> = key.split('_').filter(|word| !word.is_empty()).collect();
        let flat = words.join("_");
        let variable = |path: &str| path.replace('.', "__").to_uppercase();
        let keys = (raw::SECTIONS.iter())
            .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{}", key.name)))
            .map(|path| (path.replace('.', "_"), variable(&path)));
        let renamed = RENAMED.iter().map(|(old, new)| (old.replace('.', "_"), variable(new)));
        let known: Vec<(String, String)> = keys.chain(renamed).collect();
        let near = (known.iter())
            .find(|(name, _)| strsim::damerau_levenshtein(&flat, name) <= 1)
            .map(|(_, variable)| variable.as_str())
            .or((words.len() > 2 && words[0] == "cameras").then_some("CAMERAS__NAME__KEY"));
        if let Some(near) = near {
            let rule = format!("is not a setting; did you mean {PREFIX}{near}?");
            self.problems.push(Problem { location, key: String::new(), value: None, rule });
        } else if let Location::Environment(name) = location {
            self.warnings.push(format!(
                "{name} (environment): is ignored; settings are named like CAMFIRE_MQTT__PORT"
            ));
        }
    }

    fn add_flags(&mut self, flags: &[(String, String)]) {
        let mut layer = Layer::default();
        for (key, value) in flags {
            // The name of a group may contain dots.
            let levels = if key.starts_with("groups.") { 2 } else { usize::MAX };
            let path: Vec<String> = key.splitn(levels, '.').map(str::to_string).collect();
            self.add_text_value(&mut layer, &path, value, value.clone(), Location::Flag);
        }
        self.sources.push(layer);
    }

    fn add_text_value(
        &mut self,
        layer: &mut Layer,
        path: &[String],
        text: &str,
        written: String,
        location: Location,
    ) {
        match lookup(path) {
            Ok(Entry::Key(key)) => {
                if let [section, camera, ..] = path
                    && section == "cameras"
                {
                    if let Err(unknown) = lookup(&path[..2]) {
                        return self.add_unknown_key(path, Some(&written), location, unknown);
                    }
                    self.note_section(&["cameras", camera], location.clone());
                }
                self.add_value(layer, key, path, &key.read_text(text), &written, location);
            }
            Ok(Entry::Section) => {
                let unknown = UnknownKey::because("is a section; set one of its keys instead");
                self.add_unknown_key(path, Some(&written), location, unknown);
            }
            Err(unknown) => self.add_unknown_key(path, Some(&written), location, unknown),
        }
    }

    fn note_section(&mut self, path: &[&str], location: Location) {
        let origin = Origin { location, shown: None, is_broken: false, is_empty: false };
        self.origins.entry(path.join(".")).or_insert(origin);
    }

    /// Adds a value to the layer if it is valid, or a problem if it is not.
    fn add_value(
        &mut self,
        layer: &mut Layer,
        key: &Key,
        path: &[String],
        value: &Value,
        written: &str,
        location: Location,
    ) {
        let is_secret =
            matches!(key.kind, KeyKind::Secret) || path.last().is_some_and(|name| problems::is_secret(name));
        let shown = if is_secret { "***".into() } else { problems::shown(written) };
        let checked = key.check(value);
        let dotted = dotted(path);
        let is_broken = checked.is_err();
        if let [section, group] = path
            && section == "groups"
        {
            let classes = value.as_array().filter(|_| !is_broken).map_or(&[][..], Vec::as_slice);
            let classes = classes.iter().filter_map(|class| class.as_str().map(str::to_string)).collect();
            self.groups.insert(group.clone(), classes);
        }
        match checked {
            Ok(_) if path[0] == "groups" => {}
            Ok(kind) => {
                layer.0.insert(dotted.clone(), config::Value::new(None, kind));
            }
            Err(rule) => {
                let value = Some(shown.clone());
                self.problems.push(Problem { location: location.clone(), key: dotted.clone(), value, rule });
            }
        }
        let is_empty = value.as_str().is_some_and(str::is_empty);
        self.origins.insert(dotted, Origin { location, shown: Some(shown), is_broken, is_empty });
    }

    /// Adds the problem that there is no such key.
    fn add_unknown_key(
        &mut self,
        path: &[String],
        written: Option<&str>,
        location: Location,
        unknown: UnknownKey,
    ) {
        let is_secret = unknown.is_secret || path.iter().any(|name| problems::is_secret(name));
        let value = written.map(|written| if is_secret { "***".into() } else { problems::shown(written) });
        self.problems.push(Problem { location, key: dotted(path), value, rule: unknown.rule });
    }
}

/// Where each effective value was set, for problems that are found after loading, such as a missing file.
#[derive(Debug, Clone)]
pub struct Locations(BTreeMap<String, Origin>);

impl Locations {
    pub(super) fn new(origins: BTreeMap<String, Origin>) -> Locations {
        Locations(origins)
    }

    /// Where the value of `key` was set. None if it is the default.
    pub fn of(&self, key: &str) -> Option<&Location> {
        self.0.get(key).map(|origin| &origin.location)
    }

    /// The keys below `section` that were set, such as the zones of a camera.
    pub fn below(&self, section: &str) -> impl Iterator<Item = (&str, &Location)> {
        let prefix = format!("{section}.");
        let below = self.0.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix));
        below.map(|(key, origin)| (key.as_str(), &origin.location))
    }

    /// A problem of `key`, located at its value or, if it has none, at its section.
    pub fn problem(&self, key: &str, rule: impl Into<String>) -> Problem {
        let (location, value) = origin(&self.0, key);
        Problem { location, key: key.into(), value, rule: rule.into() }
    }
}

/// Where `key` or else its section was set, and the value of the key.
fn origin(origins: &BTreeMap<String, Origin>, key: &str) -> (Location, Option<String>) {
    let section = || key.rsplit_once('.').and_then(|(section, _)| origins.get(section));
    match (origins.get(key), section()) {
        (Some(origin), _) => (origin.location.clone(), origin.shown.clone()),
        // A flag is shown with its value, but this key has none.
        (None, Some(origin)) if origin.location != Location::Flag => (origin.location.clone(), None),
        (None, _) => (Location::Unset, None),
    }
}

/// Reads one file into the layers.
struct FileReader<'a> {
    layers: &'a mut Layers,
    name: &'a str,
    text: &'a str,
    /// Permissions of the file. None for text from the binary.
    mode: Option<u32>,
    layer: Layer,
    /// Offset of the first syntax error. Values behind it are ignored.
    end: usize,
}

impl FileReader<'_> {
    fn read(&mut self) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            // After a broken line, a key may appear to be in another section than it is.
            self.end = self.end.min(at);
            self.layers.is_incomplete = true;
            let problem = Problem {
                location: self.location(at),
                key: String::new(),
                value: None,
                rule: error.message().to_string(),
            };
            self.layers.problems.push(problem);
        }
        self.walk(&mut Vec::new(), table.get_ref());
    }

    fn location(&self, at: usize) -> Location {
        let line =
            self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count() + 1;
        Location::File { layer: self.layers.sources.len(), name: self.name.to_string(), line: Some(line) }
    }

    fn walk(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (name, value) in table {
            if value.span().end > self.end || name.span().end > self.end {
                continue;
            }
            path.push(name.get_ref().to_string());
            let location = self.location(name.span().start);
            let written = &self.text[value.span()];
            match (lookup(path), value.get_ref()) {
                (Ok(Entry::Key(key)), _) => self.add(key, path, value, location),
                (Ok(Entry::Section), DeValue::Table(below)) => {
                    match &path[..] {
                        [cameras, camera] if cameras == "cameras" => {
                            self.layers.note_section(&["cameras", camera], location)
                        }
                        [cameras, camera, regions, region] if regions == "regions" => {
                            self.layers.note_section(&[cameras, camera, regions, region], location);
                        }
                        _ => {}
                    }
                    self.walk(path, below);
                }
                (Ok(Entry::Section), _) => {
                    let header = path.join(".") + if path[..] == ["cameras"] { ".NAME" } else { "" };
                    let rule = format!("is a section; write [{header}] and its keys below it");
                    self.layers.add_unknown_key(path, None, location, UnknownKey::because(rule));
                }
                (Err(unknown), DeValue::Table(_)) => {
                    self.layers.add_unknown_key(path, None, location, unknown)
                }
                (Err(unknown), _) => self.layers.add_unknown_key(path, Some(written), location, unknown),
            }
            path.pop();
        }
    }

    fn add(&mut self, key: &Key, path: &[String], value: &Spanned<DeValue<'_>>, location: Location) {
        let written = if value.get_ref().is_table() { "a table" } else { &self.text[value.span()] };
        // The only TOML value without a `toml::Value` is a number that exceeds 64 bits. NaN breaks every rule
        // as well.
        let value = serde::Deserialize::deserialize(ValueDeserializer::from(value.clone()))
            .unwrap_or(Value::Float(f64::NAN));
        let is_readable_by_all = self.mode.is_some_and(|mode| mode & 0o004 != 0);
        if matches!(key.kind, KeyKind::Secret)
            && is_readable_by_all
            && value.as_str().is_some_and(|text| !text.is_empty())
        {
            let about = Problem {
                location: location.clone(),
                key: path.join("."),
                value: None,
                rule: "this file is readable by all users of this machine; use password_file, or run chmod o-r on it"
                    .into(),
            };
            self.layers.warnings.push(about.to_string());
        }
        self.layers.add_value(&mut self.layer, key, path, &value, written, location);
    }
}
