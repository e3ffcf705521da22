//! Puts the layers on top of each other: defaults, main file, `conf.d/*.toml` beside it, environment, flags.
//!
//! Every value is checked where it stands, and its place is kept, so that whatever is said about it later can name the
//! line, the variable or the flag. The merging itself is the `config` crate's. Environment and flags are handed in;
//! files are read here and nowhere else, but for those with passwords in them.

use super::{
    Inputs, Main,
    key::{self, Key, Meaning, Unknown},
    problems::{self, Place, Problem},
    raw::{self, Raw},
};
use config::{Map, Source};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue, ValueDeserializer},
};

/// Where the main file is unless one is named.
const MAIN_FILE: &str = "/etc/camfire/camfire.toml";

/// In front of every environment variable that is ours.
const PREFIX: &str = "CAMFIRE_";

/// All that was given, from the bottom up.
#[derive(Default)]
pub(super) struct Layers {
    /// Where each value that counts comes from, by its dotted key; cameras are in here themselves.
    pub(super) origins: BTreeMap<String, Origin>,
    pub(super) files: Vec<PathBuf>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    /// What counts of `[groups]`. Their names may be anything, which the `config` crate's paths cannot hold. One whose
    /// classes were refused is here without any.
    pub(super) groups: BTreeMap<String, Vec<String>>,
    /// A file could not be taken in whole, so nothing can be said to be missing.
    pub(super) is_incomplete: bool,
    sources: Vec<Layer>,
}

/// Who gave a value, and what.
pub(super) struct Origin {
    pub(super) place: Place,
    /// As typed, without secrets; none for a camera as such.
    pub(super) shown: Option<String>,
    /// It broke its rule and does not count; that has been said already.
    pub(super) is_broken: bool,
    /// An empty text.
    pub(super) is_empty: bool,
}

/// The sound values of one file, of the environment or of the flags, by dotted key.
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
    /// Reads and checks everything that `inputs` names.
    pub(super) fn gather(inputs: &Inputs) -> Layers {
        let mut layers = Layers::default();
        match &inputs.main {
            Main::Text { name, text } => layers.add_text(name, text, None),
            Main::File(path) => {
                layers.add_file(path, true);
                layers.add_directory_beside(path);
            }
            Main::Default => {
                layers.add_file(Path::new(MAIN_FILE), false);
                layers.add_directory_beside(Path::new(MAIN_FILE));
            }
        }
        layers.add_environment(&inputs.environment);
        layers.add_flags(&inputs.flags);
        layers
    }

    /// The merged values; every one of them is of its key's kind.
    pub(super) fn merge(&self) -> Result<Raw, config::ConfigError> {
        let mut builder = config::Config::builder();
        for (section, keys) in raw::SECTIONS {
            for key in *keys {
                builder = builder.set_default(format!("{section}.{}", key.name), key.default_value())?;
            }
        }
        for camera in self.cameras() {
            for key in raw::CAMERA {
                builder =
                    builder.set_default(format!("cameras.{camera}.{}", key.name), key.default_value())?;
            }
        }
        for region in self.regions() {
            for key in raw::REGION {
                builder = builder.set_default(format!("{region}.{}", key.name), key.default_value())?;
            }
        }
        for layer in &self.sources {
            builder = builder.add_source(layer.clone());
        }
        builder.build()?.try_deserialize()
    }

    /// For a fault of our own: the table of keys and the structs below [`Raw`] do not agree.
    pub(super) fn refuse_merge(&mut self, error: &config::ConfigError) {
        let rule = format!("cannot be put together, which is a bug in camfire: {error}");
        self.problems.push(Problem { place: Place::Nowhere, key: "configuration".into(), value: None, rule });
    }

    fn cameras(&self) -> impl Iterator<Item = &str> {
        self.origins.keys().filter_map(|key| key.strip_prefix("cameras.")).filter(|name| !name.contains('.'))
    }

    /// `cameras.NAME.regions.NAME` of each.
    fn regions(&self) -> std::collections::BTreeSet<String> {
        let region = |key: &String| {
            let levels: Vec<&str> = key.split('.').collect();
            (levels.len() >= 4 && levels[0] == "cameras" && levels[2] == "regions")
                .then(|| levels[..4].join("."))
        };
        self.origins.keys().filter_map(region).collect()
    }

    fn add_file(&mut self, path: &Path, must_be_there: bool) {
        match fs::read_to_string(path) {
            Ok(text) => {
                let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode()).ok();
                self.add_text(&path.display().to_string(), &text, mode);
                self.files.push(path.to_path_buf());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_be_there => {}
            Err(error) => self.refuse_file(path, &error),
        }
    }

    fn add_directory_beside(&mut self, main: &Path) {
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
            Err(error) => self.refuse_file(&directory, &error),
        }
    }

    fn refuse_file(&mut self, path: &Path, error: &io::Error) {
        let place = Place::File { layer: self.sources.len(), name: path.display().to_string(), line: None };
        let rule = format!("cannot be read: {error}");
        self.problems.push(Problem { place, key: String::new(), value: None, rule });
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
        let mut ours: Vec<_> = environment.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        ours.sort();
        for (name, value) in ours {
            let place = Place::Environment(name.clone());
            let key = name[PREFIX.len()..].to_lowercase();
            if key.starts_with('_') || !key.contains("__") {
                self.judge_misnamed_variable(place, &key);
                continue;
            }
            let mut path: Vec<String> = key.split("__").map(str::to_string).collect();
            if let [section, camera, ..] = &mut path[..]
                && section == "cameras"
                && let Some(known) = self.camera_in_environment(camera)
            {
                *camera = known;
            }
            self.add_text_value(&mut layer, &path, value, format!("{value:?}"), place);
        }
        self.sources.push(layer);
    }

    /// Variables have neither `-` nor small letters, cameras may: `FRONT_DOOR` is the camera `front-door` if the files
    /// have that one and no other that it could be.
    fn camera_in_environment(&self, name: &str) -> Option<String> {
        let folded = |name: &str| name.to_lowercase().replace('-', "_");
        let mut candidates = self.cameras().filter(|camera| folded(camera) == name);
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Some(only.to_string()),
            _ => None,
        }
    }

    /// `CAMFIRE_MQTT_PORT` and `CAMFIRE__MQTT__PORT` would otherwise be ignored without a word. What is nothing like a
    /// key may be somebody else's: container platforms set `CAMFIRE_SERVICE_HOST` for a service of that name.
    fn judge_misnamed_variable(&mut self, place: Place, key: &str) {
        let words: Vec<&str> = key.split('_').filter(|word| !word.is_empty()).collect();
        let flat = words.join("_");
        let known: Vec<(String, String)> = (raw::SECTIONS.iter())
            .flat_map(|(section, keys)| keys.iter().map(move |key| (section, key.name)))
            .map(|(section, key)| (format!("{section}_{key}"), format!("{section}__{key}").to_uppercase()))
            .collect();
        let near = (known.iter())
            .find(|(name, _)| strsim::damerau_levenshtein(&flat, name) <= 1)
            .map(|(_, variable)| variable.as_str())
            .or((words.len() > 2 && words[0] == "cameras").then_some("CAMERAS__NAME__KEY"));
        if let Some(near) = near {
            let rule = format!("is not a setting; did you mean {PREFIX}{near}?");
            self.problems.push(Problem { place, key: String::new(), value: None, rule });
        } else if let Place::Environment(name) = place {
            self.warnings.push(format!(
                "{name} (environment): is ignored; settings are named like CAMFIRE_MQTT__PORT"
            ));
        }
    }

    fn add_flags(&mut self, flags: &[(String, String)]) {
        let mut layer = Layer::default();
        for (key, value) in flags {
            // A group's name may have dots in it.
            let levels = if key.starts_with("groups.") { 2 } else { usize::MAX };
            let path: Vec<String> = key.splitn(levels, '.').map(str::to_string).collect();
            self.add_text_value(&mut layer, &path, value, value.clone(), Place::Flag);
        }
        self.sources.push(layer);
    }

    fn add_text_value(
        &mut self,
        layer: &mut Layer,
        path: &[String],
        text: &str,
        typed: String,
        place: Place,
    ) {
        match key::meaning(path) {
            Ok(Meaning::Key(key)) => {
                if let [section, camera, ..] = path
                    && section == "cameras"
                {
                    if let Err(unknown) = key::meaning(&path[..2]) {
                        return self.refuse(path, Some(&typed), place, unknown);
                    }
                    self.note_section(&["cameras", camera], place.clone());
                }
                self.add_value(layer, key, path, &key.read_text(text), &typed, place);
            }
            Ok(Meaning::Section) => {
                let unknown = Unknown { rule: "is a section; name a key below it".into(), is_secret: false };
                self.refuse(path, Some(&typed), place, unknown);
            }
            Err(unknown) => self.refuse(path, Some(&typed), place, unknown),
        }
    }

    fn note_section(&mut self, path: &[&str], place: Place) {
        let origin = Origin { place, shown: None, is_broken: false, is_empty: false };
        self.origins.entry(path.join(".")).or_insert(origin);
    }

    /// Takes in one value, or says which rule it breaks.
    fn add_value(
        &mut self,
        layer: &mut Layer,
        key: &Key,
        path: &[String],
        value: &Value,
        typed: &str,
        place: Place,
    ) {
        let is_secret = matches!(key.kind, key::Kind::Secret)
            || path.last().is_some_and(|name| problems::is_secret(name));
        let shown = if is_secret { "***".into() } else { problems::shown(typed) };
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
                self.problems.push(Problem { place: place.clone(), key: dotted.clone(), value, rule });
            }
        }
        let is_empty = value.as_str().is_some_and(str::is_empty);
        self.origins.insert(dotted, Origin { place, shown: Some(shown), is_broken, is_empty });
    }

    /// Says why there is no such key.
    fn refuse(&mut self, path: &[String], typed: Option<&str>, place: Place, unknown: Unknown) {
        let is_secret = unknown.is_secret || path.iter().any(|name| problems::is_secret(name));
        let value = typed.map(|typed| if is_secret { "***".into() } else { problems::shown(typed) });
        self.problems.push(Problem { place, key: dotted(path), value, rule: unknown.rule });
    }
}

/// The key at a path, as TOML wants it typed.
pub fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    path.iter().map(|name| quoted(name.as_ref())).collect::<Vec<_>>().join(".")
}

fn quoted(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_bare { name.to_string() } else { format!("{name:?}") }
}

/// Takes one file into the layers.
struct FileReader<'a> {
    layers: &'a mut Layers,
    name: &'a str,
    text: &'a str,
    /// Who may read the file.
    mode: Option<u32>,
    layer: Layer,
    /// Where what can be relied on ends.
    end: usize,
}

impl FileReader<'_> {
    fn read(&mut self) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            // Behind a broken line, a key may seem to be in a section where it is not.
            self.end = self.end.min(at);
            self.layers.is_incomplete = true;
            let problem = Problem {
                place: self.place(at),
                key: String::new(),
                value: None,
                rule: error.message().to_string(),
            };
            self.layers.problems.push(problem);
        }
        self.walk(&mut Vec::new(), table.get_ref());
    }

    fn place(&self, at: usize) -> Place {
        let line =
            self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count() + 1;
        Place::File { layer: self.layers.sources.len(), name: self.name.to_string(), line: Some(line) }
    }

    fn walk(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (name, value) in table {
            if value.span().end > self.end || name.span().end > self.end {
                continue;
            }
            path.push(name.get_ref().to_string());
            let place = self.place(name.span().start);
            let typed = &self.text[value.span()];
            match (key::meaning(path), value.get_ref()) {
                (Ok(Meaning::Key(key)), _) => self.add(key, path, value, place),
                (Ok(Meaning::Section), DeValue::Table(below)) => {
                    match &path[..] {
                        [cameras, camera] if cameras == "cameras" => {
                            self.layers.note_section(&["cameras", camera], place)
                        }
                        [cameras, camera, regions, region] if regions == "regions" => {
                            self.layers.note_section(&[cameras, camera, regions, region], place);
                        }
                        _ => {}
                    }
                    self.walk(path, below);
                }
                (Ok(Meaning::Section), _) => {
                    let header = path.join(".") + if path[..] == ["cameras"] { ".NAME" } else { "" };
                    let rule = format!("is a section; write [{header}] and its keys below");
                    self.layers.refuse(path, None, place, Unknown { rule, is_secret: false });
                }
                (Err(unknown), DeValue::Table(_)) => self.layers.refuse(path, None, place, unknown),
                (Err(unknown), _) => self.layers.refuse(path, Some(typed), place, unknown),
            }
            path.pop();
        }
    }

    fn add(&mut self, key: &Key, path: &[String], value: &Spanned<DeValue<'_>>, place: Place) {
        let typed = if value.get_ref().is_table() { "a table" } else { &self.text[value.span()] };
        // The one TOML value that has no `toml::Value` is a number beyond 64 bits. Not-a-number breaks every rule too.
        let value = serde::Deserialize::deserialize(ValueDeserializer::from(value.clone()))
            .unwrap_or(Value::Float(f64::NAN));
        let is_open = self.mode.is_some_and(|mode| mode & 0o004 != 0);
        if matches!(key.kind, key::Kind::Secret)
            && is_open
            && value.as_str().is_some_and(|text| !text.is_empty())
        {
            let about = Problem {
                place: place.clone(),
                key: path.join("."),
                value: None,
                rule: "this file can be read by everyone on this machine; use password_file, or chmod o-r"
                    .into(),
            };
            self.layers.warnings.push(about.to_string());
        }
        self.layers.add_value(&mut self.layer, key, path, &value, typed, place);
    }
}
