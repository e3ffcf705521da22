//! Reloads: a running daemon takes a new configuration and touches only what changed.
//!
//! A reload has three parts. The **plan** ([`super::plan`]) is the difference of the two configurations. The
//! **trial** ([`Reloader::prepare`]) opens everything that the new configuration needs, without touching what
//! runs: every reason for which a start would fail refuses the reload, with all problems at once. Only then
//! [`Daemon::reload`] **applies** it, and nothing is left that can go wrong but the system itself.
//!
//! What a change of a section does:
//!
//! - `[cameras.NAME]`, what is drawn on the picture and the numbers of the analysis: that camera ends its
//!   tracks and learns its background anew. Its pipeline goes on.
//! - `[cameras.NAME]`, anything else: that camera ends its tracks and is opened anew. Its counters and what
//!   commands have set go on.
//! - `[objects]`, `[detections]`: all cameras are opened anew.
//! - `[node]`: all cameras are opened anew, and everything is sent under the new name.
//! - `[engine]`, `[groups]`: new workers; tracks and backgrounds begin anew, pipelines go on. Another
//!   file at the same path counts. Another number of workers changes nothing else.
//! - `objects.inference_budget`, pictures: new workers. None of the old ones ends before they run.
//! - `[pictures]`, folder and limits: a new store; the old one first writes what it has.
//! - `[mqtt]`, `[outbox]`, `[commands]`, `[homeassistant]`, `[frigate]` and cameras: the publisher leaves the
//!   broker and connects again. What waits stays in the outbox, which moves with everything in it if its file
//!   changes.
//! - `[web]`: the new address is bound before the old server ends.
//! - `[stats]`, `[log]`: apply at once.
//!
//! A camera whose section did not change keeps its pipeline, tracks, background and counters, and loses no
//! frame.

use super::{
    Daemon, STAGE_STOP_TIMEOUT, STAGE_TIMEOUT,
    instance::Instance,
    plan::{CameraChange, Plan, WorkersChange},
    stages,
};
use crate::{
    camera::template::{self, Pipeline},
    config::{Camera, Config, Loaded, Source},
    control::{CameraControl, saved},
    error::Error,
    publish::{mqtt, outbox},
    sync::lock,
    web,
    workers::{classifier::Classifier, model::Model},
};
use std::{
    collections::BTreeMap,
    fs, io,
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
};

/// Maximum length in bytes of the problems in a command's answer. The log has all of them.
const MAX_ANSWER_BYTES: usize = 4096;

/// Reads the configuration. Errors: all problems, one line each.
pub type ConfigReader = Box<dyn Fn() -> Result<Loaded, Vec<String>> + Send + Sync>;

/// Prepares reloads, for signals and for commands, on any thread.
pub struct Reloader {
    read: ConfigReader,
    /// What runs. None while it changes.
    running: Mutex<Option<Arc<Running>>>,
    /// The reload that was prepared last.
    prepared: Mutex<Option<Prepared>>,
}

/// What a new configuration is compared with.
struct Running {
    config: Config,
    model: Model,
}

/// A reload that can be applied: everything that may fail is open already.
pub struct Prepared {
    config: Config,
    model: Model,
    plan: Plan,
    /// The pipelines of the cameras to be opened.
    pipelines: BTreeMap<String, Vec<Pipeline>>,
    /// Sessions of the new workers.
    classifiers: Vec<Classifier>,
    /// The new address of the web server.
    listener: Option<TcpListener>,
    /// The claim on the new outbox file.
    instance: Option<Instance>,
}

impl Reloader {
    /// Creates the reloader of a daemon that is about to start.
    pub fn new(read: ConfigReader) -> Reloader {
        Reloader { read, running: Mutex::new(None), prepared: Mutex::new(None) }
    }

    /// Sets what runs now, after the start or a reload.
    pub fn set_running(&self, config: Config, model: Model) {
        *lock(&self.running) = Some(Arc::new(Running { config, model }));
    }

    /// Reads the configuration, compares it with the running one and tries everything that it needs.
    /// [`Reloader::take`] then returns the result. Logs all problems.
    ///
    /// Errors: the problems, one line each, limited in length.
    pub fn prepare(&self) -> Result<(), String> {
        let mut prepared = lock(&self.prepared);
        // An earlier one may hold the same address.
        *prepared = None;
        let running = lock(&self.running).clone();
        let Some(running) = running else { return Err("a reload is in progress; try again".to_string()) };
        match (self.read)().and_then(|loaded| Prepared::new(loaded, &running)) {
            Ok(fresh) => {
                *prepared = Some(fresh);
                Ok(())
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!("The new configuration is refused: {problem}");
                }
                tracing::error!(count = problems.len(), "Keeping the running configuration.");
                Err(limited(&problems))
            }
        }
    }

    /// Takes the reload that was prepared. Until [`Reloader::set_running`], no other can be prepared.
    pub fn take(&self) -> Option<Prepared> {
        let prepared = lock(&self.prepared).take();
        if prepared.is_some() {
            *lock(&self.running) = None;
        }
        prepared
    }
}

impl Prepared {
    /// Tries everything that a configuration needs. Errors: all problems.
    fn new(loaded: Loaded, running: &Running) -> Result<Prepared, Vec<String>> {
        let config = loaded.config;
        let mut problems = Vec::new();
        let model = Model::open(&config.engine.network, &config.groups);
        let is_other_model = model.as_ref().is_ok_and(|model| is_other(model, &running.model));
        let plan = Plan::new(&running.config, &config, is_other_model);
        let model = keep(model, &mut problems);
        let mut pipelines = BTreeMap::new();
        for camera in config.cameras.iter().filter(|camera| plan.opens(&camera.name)) {
            let found = keep(template::candidates(camera), &mut problems);
            pipelines.extend(found.map(|found| (camera.name.clone(), found)));
            problems.extend(source_problem(camera));
        }
        if running.config.mqtt != config.mqtt {
            problems.extend(mqtt::check(&config.mqtt).err().map(|error| error.to_string()));
        }
        problems.extend(outbox::check_move(&running.config.outbox, &config.outbox).err());
        problems.extend(settings_file_problem(&running.config, &config));
        let instance = match &config.outbox.file {
            Some(file) if running.config.outbox.file.as_ref() != Some(file) => {
                keep(Instance::claim(file), &mut problems).flatten()
            }
            _ => None,
        };
        let listener = match config.web.listen {
            Some(listen) if plan.web && running.config.web.listen != Some(listen) => {
                let bound = web::bind(listen).map_err(|error| format!("web.listen: {listen}: {error}"));
                keep(bound, &mut problems)
            }
            _ => None,
        };
        if let Some(directory) = config.pictures.directory.as_ref().filter(|_| plan.store)
            && let Err(error) = check_writable(directory)
        {
            problems.push(format!("pictures.directory: {}: {error}", directory.display()));
        }
        let classifiers = model.as_ref().map(|model| {
            let count = match plan.workers {
                WorkersChange::Keep => 0,
                WorkersChange::Resize => {
                    stages::worker_count(&config).saturating_sub(stages::worker_count(&running.config))
                }
                WorkersChange::Replace => stages::worker_count(&config),
            };
            stages::open_classifiers(if plan.model { model } else { &running.model }, count)
        });
        let classifiers = classifiers.and_then(|opened| keep(opened, &mut problems));
        let (Some(model), Some(classifiers)) = (model, classifiers) else { return Err(problems) };
        if !problems.is_empty() {
            return Err(problems);
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let model = if plan.model { model } else { running.model.clone() };
        Ok(Prepared { config, model, plan, pipelines, classifiers, listener, instance })
    }
}

/// Collects the error of a result.
fn keep<T, E: ToString>(result: Result<T, E>, problems: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| problems.push(error.to_string())).ok()
}

/// Whether two models give different results, or results with other names.
fn is_other(model: &Model, other: &Model) -> bool {
    (&model.identity, &model.labels, &model.taxonomy) != (&other.identity, &other.labels, &other.taxonomy)
}

/// Why a recording cannot be opened. A camera that cannot be reached is no problem: it may come back.
fn source_problem(camera: &Camera) -> Option<String> {
    let Source::File { path, .. } = &camera.source else { return None };
    let error = fs::File::open(path).err()?;
    Some(format!("cameras.{}.source: {}: {error}", camera.name, path.display()))
}

/// Why what commands have set cannot move to the new file.
fn settings_file_problem(before: &Config, after: &Config) -> Option<String> {
    if before.commands.settings_file == after.commands.settings_file {
        return None;
    }
    let Some(file) = &after.commands.settings_file else {
        return Some("commands.settings_file: it can be removed only at a restart".into());
    };
    let error = saved::check_free(file).err()?;
    Some(format!("commands.settings_file: {}: {error}; it is read only at a restart", file.display()))
}

/// Checks that files can be created in a folder, which is created if it is missing.
fn check_writable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let probe = folder.join(format!(".camfire-{:08x}", fastrand::u32(..)));
    fs::OpenOptions::new().write(true).create_new(true).open(&probe)?;
    fs::remove_file(probe)
}

/// The problems in whole lines as far as there is space, and how many more there are.
fn limited(problems: &[String]) -> String {
    let mut text = String::new();
    for (number, problem) in problems.iter().enumerate() {
        if number > 0 && text.len() + problem.len() >= MAX_ANSWER_BYTES {
            text.push_str(&format!("\nand {} more; the log has all of them", problems.len() - number));
            break;
        }
        if number > 0 {
            text.push('\n');
        }
        let end = problem.floor_char_boundary(MAX_ANSWER_BYTES);
        text.push_str(&problem[..end]);
    }
    text
}

impl Daemon {
    /// Applies a reload, and logs each change. Returns the configuration and the model that run now.
    ///
    /// Errors: the system cannot start a thread. The daemon is incomplete then and must be stopped.
    pub fn reload(&mut self, prepared: Prepared) -> Result<(Config, Model), Error> {
        let Prepared { config, model, plan, pipelines, classifiers, listener, instance } = prepared;
        let before = std::mem::replace(&mut self.config, config);
        self.move_settings();
        let cameras = self.config.cameras.clone();
        let kept = plan.with(&[CameraChange::Keep]);
        self.stop_cameras(&plan.with(&[CameraChange::Stop, CameraChange::Restart]));
        *lock(&self.durable_kinds) = self.config.outbox.durable_kinds.clone();
        self.replace_workers(&plan, &kept, model, classifiers)?;
        for camera in &cameras {
            self.prepare_camera(camera, plan.cameras[&camera.name]);
        }
        for name in plan.with(&[CameraChange::Stop]) {
            if let Some(entry) = self.cameras.remove(&name) {
                self.queues.close(&entry.slot);
            }
        }
        self.count_cameras();
        self.limit_recordings();
        self.update_web();
        if plan.publisher {
            let (accepted, is_accepted) = crossbeam_channel::bounded(0);
            let kept = plan.with(&[CameraChange::Keep, CameraChange::Adjust]);
            self.renew_publisher(kept, before.frigate == self.config.frigate, accepted)?;
            // Ends when the sender is dropped. The last states of the stopped cameras must not be taken for
            // those of the new ones.
            let _ = is_accepted.recv_timeout(STAGE_TIMEOUT);
        }
        // The outbox has moved.
        if instance.is_some() {
            self.instance = instance;
        }
        if plan.web {
            // A new address is bound already. With the same one, the old server must end first.
            let old: Vec<_> = self.web.take().into_iter().collect();
            if listener.is_some() {
                self.web = self.start_web(listener)?;
                self.end(old);
            } else {
                self.end(old);
                self.web = self.start_web(None)?;
            }
        }
        for camera in &cameras {
            if let Some(pipelines) = pipelines.get(&camera.name) {
                self.start_camera(camera, pipelines.clone())?;
            }
        }
        self.stats.node = self.reporter.node.clone();
        if plan.stats {
            self.next_stats = self.clock.monotonic() + self.config.stats.interval;
        }
        let lines = plan.lines(&self.config);
        for line in &lines {
            tracing::info!("Reloaded: {line}.");
        }
        tracing::info!(changes = lines.len(), "Configuration is reloaded.");
        Ok((self.config.clone(), self.reporter.model.clone()))
    }

    /// Moves what commands have set to the file of the configuration.
    fn move_settings(&self) {
        let Some(file) = self.config.commands.settings_file.as_ref() else { return };
        if self.saved.path().as_ref() != Some(file)
            && let Err(error) = self.saved.relocate(file)
        {
            tracing::error!(file = %file.display(), %error, "What commands have set stays in the old file.");
        }
    }

    /// Stops the stages of cameras and ends their tracks.
    fn stop_cameras(&mut self, names: &[String]) {
        let entries = names.iter().filter_map(|name| self.cameras.get_mut(name)?.stage.take());
        let stopped: Vec<_> = entries.collect();
        self.end(stopped);
        for name in names {
            let Some(entry) = self.cameras.get(name) else { continue };
            self.end_scene(self.queues.withdraw(&entry.slot, STAGE_STOP_TIMEOUT));
        }
    }

    /// Brings the model, the store and the workers to the new configuration.
    fn replace_workers(
        &mut self,
        plan: &Plan,
        kept: &[String],
        model: Model,
        classifiers: Vec<Classifier>,
    ) -> Result<(), Error> {
        if plan.workers == WorkersChange::Keep {
            return Ok(());
        }
        if plan.workers == WorkersChange::Resize {
            let more = self.start_workers(classifiers)?;
            self.workers.extend(more);
            let count = stages::worker_count(&self.config).min(self.workers.len());
            let surplus = self.workers.split_off(count);
            self.end(surplus);
            return Ok(());
        }
        let old_store = if plan.store { self.store.take() } else { None };
        if plan.store {
            self.start_store()?;
        }
        self.reporter.node = self.config.node.name.as_str().into();
        self.reporter.publishes_pictures = self.config.pictures.publish;
        self.update_links();
        if plan.model {
            // The labels of tracks are numbers of the old model, so no worker may see a scene of the other.
            let old = std::mem::take(&mut self.workers);
            self.end(old);
            let old_model = std::mem::replace(&mut self.reporter.model, model.clone());
            for name in kept {
                self.begin_anew(name, &old_model);
            }
            self.workers = self.start_workers(classifiers)?;
        } else {
            let new = self.start_workers(classifiers)?;
            let old = std::mem::replace(&mut self.workers, new);
            self.end(old);
        }
        // Its last senders are gone with the old workers.
        self.end(old_store.into_iter().collect());
        Ok(())
    }

    /// Ends the tracks of a camera that goes on, under the names of the model before, and gives it a new
    /// scene.
    fn begin_anew(&mut self, name: &str, old_model: &Model) {
        let Some(camera) = self.config.cameras.iter().find(|camera| camera.name == name).cloned() else {
            return;
        };
        let Some(entry) = self.cameras.get(name) else { return };
        let (slot, counters, control) = (entry.slot.clone(), entry.counters.clone(), entry.control.clone());
        let watched = self.watch(&camera, counters, control, entry.recording.clone());
        let old = self.queues.exchange(&slot, watched, STAGE_STOP_TIMEOUT);
        let model = std::mem::replace(&mut self.reporter.model, old_model.clone());
        self.end_scene(old);
        self.reporter.model = model;
    }

    /// Prepares a camera that is to be started: its counters, its settings and its analysis state.
    fn prepare_camera(&mut self, camera: &Camera, change: CameraChange) {
        match change {
            CameraChange::Keep | CameraChange::Stop => {}
            CameraChange::Adjust => {
                let Some(entry) = self.cameras.get(&camera.name) else { return };
                entry.control.reconfigure(camera);
                let model = self.reporter.model.clone();
                self.begin_anew(&camera.name, &model);
            }
            CameraChange::Start => self.add_camera(camera),
            CameraChange::Restart => {
                let Some(entry) = self.cameras.get(&camera.name) else { return };
                let control = Arc::new(CameraControl::new(camera, &self.saved));
                let (slot, counters, recording) =
                    (entry.slot.clone(), entry.counters.clone(), entry.recording.clone());
                let watched = self.watch(camera, counters, control.clone(), recording);
                self.queues.restore(&slot, watched);
                if let Some(entry) = self.cameras.get_mut(&camera.name) {
                    entry.control = control;
                }
            }
        }
    }
}
