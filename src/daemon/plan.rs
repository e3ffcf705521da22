//! What a reload changes: the difference between the running configuration and a new one. Pure.

use super::stages::{pictures_per_frame, worker_count};
use crate::config::{Camera, Config, Objects, Web};
use std::{collections::BTreeMap, time::Duration};

/// What becomes of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameraChange {
    /// It goes on: same pipeline, tracks, background and counters.
    Keep,
    /// Its analysis begins anew. Its pipeline and its counters go on.
    Adjust,
    /// It is new.
    Start,
    /// It is opened anew. Its counters go on.
    Restart,
    /// It is no longer configured.
    Stop,
}

/// What becomes of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkersChange {
    /// They go on.
    Keep,
    /// There are more or fewer.
    Resize,
    /// They are replaced by new ones.
    Replace,
}

/// The difference between two configurations. `true`: this is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The old and the new cameras by name.
    pub cameras: BTreeMap<String, CameraChange>,
    /// The network, its heads or its labels.
    pub model: bool,
    pub workers: WorkersChange,
    pub store: bool,
    pub publisher: bool,
    pub web: bool,
    /// The web server goes on with another certificate.
    pub certificate: bool,
    pub stats: bool,
    pub log: bool,
}

impl Plan {
    /// The way from one configuration to another. `is_other_model`: the files of the model are not what is
    /// running.
    pub fn new(old: &Config, new: &Config, is_other_model: bool) -> Plan {
        let model = is_other_model || old.engine.network != new.engine.network || old.groups != new.groups;
        let store = (&old.pictures.directory, old.pictures.max_bytes, old.pictures.max_age)
            != (&new.pictures.directory, new.pictures.max_bytes, new.pictures.max_age);
        let is_worker_setting_changed = old.node != new.node
            || old.objects.inference_budget != new.objects.inference_budget
            || (old.pictures.quality, old.pictures.publish) != (new.pictures.quality, new.pictures.publish)
            || old.web.public_url != new.web.public_url
            || pictures_per_frame(old) != pictures_per_frame(new);
        let workers = if model || store || is_worker_setting_changed {
            WorkersChange::Replace
        } else if worker_count(old) != worker_count(new) {
            WorkersChange::Resize
        } else {
            WorkersChange::Keep
        };
        let web = for_web(old) != for_web(new);
        Plan {
            cameras: camera_changes(old, new, model),
            model,
            workers,
            store,
            publisher: model || for_publisher(old) != for_publisher(new),
            web,
            certificate: !web && old.web.certificate != new.web.certificate,
            stats: old.stats != new.stats,
            log: old.log != new.log,
        }
    }

    /// Whether a camera's pipeline is opened: it is new or changed.
    pub fn opens(&self, camera: &str) -> bool {
        matches!(self.cameras.get(camera), Some(CameraChange::Start | CameraChange::Restart))
    }

    /// The names of the cameras with one of these changes.
    pub fn with(&self, changes: &[CameraChange]) -> Vec<String> {
        let found = self.cameras.iter().filter(|(_, change)| changes.contains(change));
        found.map(|(name, _)| name.clone()).collect()
    }

    /// One line for the user about each change.
    pub fn lines(&self, new: &Config) -> Vec<String> {
        let mut lines: Vec<String> = self
            .cameras
            .iter()
            .filter_map(|(name, change)| match change {
                CameraChange::Keep => None,
                CameraChange::Adjust => Some(format!("camera '{name}' analysed anew")),
                CameraChange::Start => Some(format!("camera '{name}' added")),
                CameraChange::Restart => Some(format!("camera '{name}' opened anew")),
                CameraChange::Stop => Some(format!("camera '{name}' removed")),
            })
            .collect();
        if self.model {
            lines.push("model replaced; the tracks and backgrounds of all cameras begin anew".to_string());
        }
        match self.workers {
            WorkersChange::Resize => lines.push(format!("{} workers", worker_count(new))),
            WorkersChange::Replace if !self.model => lines.push("workers replaced".to_string()),
            WorkersChange::Replace | WorkersChange::Keep => {}
        }
        if self.store {
            lines.push(match &new.pictures.directory {
                Some(directory) => format!("pictures go to {}", directory.display()),
                None => "pictures are no longer stored".to_string(),
            });
        }
        if self.publisher {
            lines.push("publisher connects to the broker again".to_string());
        }
        if self.web {
            lines.push(match new.web.listen {
                Some(listen) => format!("web listens on {listen}"),
                None => "web server stopped".to_string(),
            });
        }
        if self.certificate {
            lines.push("web server has another certificate".to_string());
        }
        if self.stats {
            lines.push(format!("stats every {:?}", new.stats.interval));
        }
        if self.log {
            lines.push("log.level changed".to_string());
        }
        lines
    }
}

/// The changes of the cameras. `is_other_model`: the labels of open tracks are those of another model.
fn camera_changes(old: &Config, new: &Config, is_other_model: bool) -> BTreeMap<String, CameraChange> {
    // What the cameras share is part of each of them.
    let is_shared_changed = old.node != new.node
        || old.detections != new.detections
        || for_cameras(&old.objects) != for_cameras(&new.objects);
    let find = |name: &str| new.cameras.iter().find(|camera| camera.name == name);
    let change = |before: &Camera| match find(&before.name) {
        None => CameraChange::Stop,
        Some(after) if after == before && !is_shared_changed => CameraChange::Keep,
        Some(after) if is_only_adjusted(before, after) && !is_shared_changed && !is_other_model => {
            CameraChange::Adjust
        }
        Some(_) => CameraChange::Restart,
    };
    let added = new.cameras.iter().map(|camera| (camera.name.clone(), CameraChange::Start));
    let mut changes: BTreeMap<_, _> = added.collect();
    changes.extend(old.cameras.iter().map(|camera| (camera.name.clone(), change(camera))));
    changes
}

/// Whether only the analysis differs, so that the pipeline can go on.
fn is_only_adjusted(before: &Camera, after: &Camera) -> bool {
    let Camera { motion, masks, score, labels, heatmap, zones, regions, .. } = after.clone();
    Camera { motion, masks, score, labels, heatmap, zones, regions, ..before.clone() } == *after
}

/// The part of the settings that the cameras' analysis uses; the rest is the workers'.
fn for_cameras(objects: &Objects) -> Objects {
    Objects { inference_budget: Duration::ZERO, ..objects.clone() }
}

/// The part of the configuration whose change replaces the web server. Another certificate does not, because
/// certificates are renewed every few weeks, and nobody should have to log in again.
fn for_web(config: &Config) -> (Web, bool) {
    (Web { certificate: None, ..config.web.clone() }, config.web.certificate.is_some())
}

/// The part of the configuration that the publisher and its announcements may use: everything but what is
/// surely none of their business.
fn for_publisher(config: &Config) -> Config {
    let mut config = config.clone();
    config.log.level = crate::config::LogLevel::Info;
    config.stats.interval = Duration::ZERO;
    config.engine.workers = 1;
    config.objects.inference_budget = Duration::ZERO;
    (config.pictures.max_bytes, config.pictures.max_age, config.pictures.quality) = (0, Duration::ZERO, 0);
    config.web.certificate = None;
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const BASE: &str = "node.name = 'porch'\nengine.workers = 2\n\
        [cameras.door]\nsource = 'test://'\n[cameras.yard]\nsource = 'test://ball'\n";

    fn load(text: &str) -> Config {
        let main = config::Main::Text { name: "t".into(), text: text.into() };
        config::load(&config::Inputs { main, ..Default::default() }).unwrap().config
    }

    /// The way from [`BASE`] to `text`.
    fn plan(text: &str) -> Plan {
        Plan::new(&load(BASE), &load(text), false)
    }

    /// The changes of the cameras, by name.
    fn changes(plan: &Plan) -> Vec<(&str, CameraChange)> {
        plan.cameras.iter().map(|(name, change)| (name.as_str(), *change)).collect()
    }

    #[test]
    fn nothing_is_touched_without_a_change() {
        let plan = plan(&format!("# a comment\n{BASE}"));
        assert_eq!(changes(&plan), [("door", CameraChange::Keep), ("yard", CameraChange::Keep)]);
        assert_eq!(plan.lines(&load(BASE)), [""; 0]);
        let parts =
            [plan.model, plan.store, plan.publisher, plan.web, plan.certificate, plan.stats, plan.log];
        assert_eq!((parts, plan.workers), ([false; 7], WorkersChange::Keep));
    }

    #[test]
    fn a_changed_camera_is_opened_anew_and_the_others_are_kept() {
        let plan = plan(&BASE.replace("test://ball", "test://smpte"));
        assert_eq!(changes(&plan), [("door", CameraChange::Keep), ("yard", CameraChange::Restart)]);
        assert!(plan.opens("yard") && !plan.opens("door"));
        assert!(plan.publisher && !plan.model && !plan.web);
        assert_eq!(plan.workers, WorkersChange::Keep);
    }

    #[test]
    fn the_pipeline_goes_on_if_only_the_analysis_changes() {
        for line in [
            "motion_threshold = 20",
            "min_size = 0.1",
            "score = 0.6",
            "masks = [[[0, 0], [0.5, 0], [0.5, 1]]]",
            "zones.lawn = [[0, 0], [0.5, 0], [0.5, 1]]",
            "labels = ['cat']",
        ] {
            let plan = plan(&format!("{BASE}{line}\n"));
            let expected = [("door", CameraChange::Keep), ("yard", CameraChange::Adjust)];
            assert_eq!(changes(&plan), expected, "{line}");
            assert!(!plan.opens("yard") && plan.publisher);
        }
        let both = plan(&format!("{BASE}motion_threshold = 20\nrate_fps = 1\n"));
        assert_eq!(changes(&both)[1], ("yard", CameraChange::Restart));
        let with_model = Plan::new(&load(BASE), &load(&format!("{BASE}score = 0.6\n")), true);
        assert_eq!(changes(&with_model)[1], ("yard", CameraChange::Restart));
    }

    #[test]
    fn a_renamed_camera_is_removed_and_added() {
        let plan = plan(&BASE.replace("cameras.yard", "cameras.garden"));
        let expected =
            [("door", CameraChange::Keep), ("garden", CameraChange::Start), ("yard", CameraChange::Stop)];
        assert_eq!(changes(&plan), expected);
    }

    #[test]
    fn what_cameras_inherit_changes_each_of_them() {
        for line in ["objects.score = 0.6", "detections.top = 2", "node.name = 'attic'"] {
            let text = match line.starts_with("node") {
                true => BASE.replace("node.name = 'porch'", line),
                false => format!("{line}\n{BASE}"),
            };
            let plan = plan(&text);
            assert!(plan.cameras.values().all(|change| *change == CameraChange::Restart), "{line}");
        }
    }

    #[test]
    fn stages_are_replaced_only_for_their_own_settings() {
        let with = |line: &str| plan(&format!("{line}\n{BASE}"));
        let kept = |plan: &Plan| plan.cameras.values().all(|change| *change == CameraChange::Keep);
        let web = with("web.listen = '127.0.0.1:9000'");
        assert!(kept(&web) && web.web && web.workers == WorkersChange::Keep);
        let broker = with("mqtt.port = 1884");
        assert!(kept(&broker) && broker.publisher && !broker.web && broker.workers == WorkersChange::Keep);
        let stats = with("stats.interval = '7s'");
        assert!(kept(&stats) && stats.stats && !stats.publisher);
        let workers = plan(&BASE.replace("workers = 2", "workers = 1"));
        assert!(kept(&workers) && workers.workers == WorkersChange::Resize && !workers.publisher);
        let links = with("web = { listen = '127.0.0.1:9000', public_url = 'http://localhost:9000' }");
        assert!(kept(&links) && links.web && links.publisher && links.workers == WorkersChange::Replace);
        let budget = with("objects.inference_budget = '3ms'");
        assert!(kept(&budget) && budget.workers == WorkersChange::Replace && !budget.publisher);
        let groups = with("groups.pets = ['cat']");
        assert!(
            kept(&groups) && groups.model && groups.publisher && groups.workers == WorkersChange::Replace
        );
        assert!(!groups.store && with("pictures.directory = '/tmp/p'").store);
        let other_file = Plan::new(&load(BASE), &load(BASE), true);
        assert!(kept(&other_file) && other_file.model);
    }
}
