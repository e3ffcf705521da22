//! Converts the analysis of a frame to messages and pictures, and sends them to the publisher and the picture
//! store.

use crate::{
    clock::Clock,
    counters::{CameraCounters, FrameTrace},
    frame::Frame,
    queue::messages::MessageSender,
    vision::{
        events::{Event, EventKind},
        picture::grey_png,
        scene::{Analysis, Object, ObjectCounts, Occupancy, Scene, ZoneCounts},
    },
    wire::{
        files::{PictureFiles, PictureFiling},
        links::Links,
        messages::{self, Detections, Header, Message, Size, ZoneOccupancy},
    },
    workers::model::Model,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};
use uuid::Uuid;

/// The camera that is reported.
pub struct ReportedCamera {
    /// Its name.
    pub name: Arc<str>,
    /// Its counters.
    pub counters: Arc<CameraCounters>,
}

/// Sends the messages of one node.
#[derive(Clone)]
pub struct Reporter {
    /// The node's name.
    pub node: Arc<str>,
    /// Labels and identity of the network.
    pub model: Model,
    /// Queue to the publisher.
    pub messages: MessageSender<Message>,
    /// Queue to the picture store. None if pictures are not stored.
    pub files: Option<MessageSender<PictureFiling>>,
    /// Whether pictures are published.
    pub publishes_pictures: bool,
    /// Makes the links of events. None if they have none.
    pub links: Option<Arc<Links>>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
}

impl Reporter {
    fn header(&self, camera: &ReportedCamera) -> Header {
        Header::new(self.node.clone(), Some(camera.name.clone()))
    }

    /// Sends a snapshot that a command requested.
    pub fn report_snapshot(&self, camera: &ReportedCamera, jpeg: Vec<u8>) {
        let camera = camera.name.clone();
        self.messages.send(Message::Snapshot(messages::Picture { camera, jpeg: jpeg.into() }));
    }

    /// Sends everything about an analysed frame.
    pub fn report_frame(
        &self,
        camera: &ReportedCamera,
        scene: &Scene,
        frame: &Frame,
        mut analysis: Analysis,
    ) {
        self.report(camera, scene, Some(frame), &mut analysis);
        let latency = frame.timings.inferred.saturating_sub(frame.timings.captured);
        self.messages.send(Message::Detections(Detections {
            header: self.header(camera),
            frame: frame.number,
            captured_at: frame.captured_at,
            capture_clock: frame.capture_clock,
            clock_synchronised: self.clock.is_synchronised(),
            latency_ms: latency.as_secs_f64() * 1e3,
            size: size(analysis.size),
            objects: analysis.objects.iter().map(|object| self.object(object, analysis.size)).collect(),
            inferences: analysis.inferences,
            model: self.model.identity.clone(),
            trace: Some(FrameTrace { timings: frame.timings, counters: camera.counters.clone() }),
        }));
    }

    /// Sends the events, states and pictures of an analysis, but not its detections: the frame was not
    /// analysed completely, or there is none because tracks ended. Takes occupancy and pictures out of the
    /// analysis.
    pub fn report(
        &self,
        camera: &ReportedCamera,
        scene: &Scene,
        frame: Option<&Frame>,
        analysis: &mut Analysis,
    ) {
        let ReportedCamera { name, counters } = camera;
        counters.inferences.fetch_add(u64::from(analysis.inferences), Ordering::Relaxed);
        let mut pictures = self.take_pictures(camera, analysis);
        for event in &analysis.events {
            // The picture goes with the event, so that it is published before it.
            let picture = pictures.remove(&event.id);
            let event = messages::Event { picture, ..self.event(camera, scene, event, frame) };
            self.messages.send(Message::Event(event.into()));
        }
        for jpeg in pictures.into_values() {
            self.messages.send(Message::Picture(messages::Picture { camera: name.clone(), jpeg }));
        }
        if let Some(occupancy) = analysis.occupancy.take() {
            self.messages.send(Message::Occupancy(self.occupancy(camera, scene, occupancy)));
        }
        let Some(frame) = frame else { return };
        for state in &analysis.regions {
            self.messages.send(Message::Region(messages::Region {
                header: self.header(camera),
                region: scene.settings().camera.regions[state.region].name.clone(),
                state: self.label(state.label),
                score: state.score,
                since: state.since,
                at: frame.captured_at,
            }));
        }
        if let Some(change) = analysis.change {
            self.messages.send(Message::Scene(messages::SceneChanged {
                header: self.header(camera),
                at: frame.captured_at,
                change,
            }));
        }
        for (_, heatmap) in &analysis.heatmaps {
            let png = grey_png(&heatmap.grey, heatmap.width, heatmap.height);
            self.messages.send(Message::Heatmap(messages::Heatmap { camera: name.clone(), png }));
        }
    }

    fn occupancy(&self, camera: &ReportedCamera, scene: &Scene, occupancy: Occupancy) -> messages::Occupancy {
        let named = |labels: BTreeMap<Option<usize>, usize>| -> BTreeMap<String, usize> {
            labels.into_iter().map(|(label, count)| (self.label(label), count)).collect()
        };
        let ObjectCounts { total, labels, zones } = occupancy.counts;
        let zone = |(name, counts): (&str, ZoneCounts)| {
            let counts = ZoneOccupancy { total: counts.total, labels: named(counts.labels) };
            (name.to_string(), counts)
        };
        messages::Occupancy {
            header: self.header(camera),
            at: occupancy.at,
            total,
            labels: named(labels),
            zones: scene.zone_names().zip(zones).map(zone).collect(),
        }
    }

    /// Sends an analysed frame to those who look at the camera.
    pub fn report_view(&self, camera: &ReportedCamera, jpeg: Vec<u8>) {
        let camera = camera.name.clone();
        self.messages.send(Message::View(messages::Picture { camera, jpeg: jpeg.into() }));
    }

    /// Takes the pictures out of the analysis and sends them to the store. Returns the annotated ones by
    /// object, if they are published.
    fn take_pictures(&self, camera: &ReportedCamera, analysis: &mut Analysis) -> BTreeMap<Uuid, Arc<[u8]>> {
        let mut published = BTreeMap::new();
        for (id, started_at, pictures) in std::mem::take(&mut analysis.pictures) {
            if self.publishes_pictures {
                published.insert(id, pictures.annotated.as_slice().into());
            }
            if let Some(files) = &self.files {
                let camera = camera.name.clone();
                files.send(PictureFiling { camera, id, started_at, pictures });
            }
        }
        published
    }

    fn event(
        &self,
        camera: &ReportedCamera,
        scene: &Scene,
        event: &Event,
        frame: Option<&Frame>,
    ) -> messages::Event {
        let zones: Vec<&str> = scene.zone_names().collect();
        let names = |indices: &[usize]| indices.iter().map(|&index| zones[index].to_string()).collect();
        let (kind, changed, reason) = match &event.kind {
            EventKind::Start => (messages::EventType::Start, Vec::new(), None),
            EventKind::Update(changed) => (messages::EventType::Update, changed.clone(), None),
            EventKind::End(reason) => (messages::EventType::End, Vec::new(), Some(*reason)),
        };
        let pictures =
            self.files.is_some().then(|| PictureFiles::new(&camera.name, event.id, event.started_at));
        let links = self.links.as_ref().map(|links| links.of_event(event.id, pictures.is_some()));
        messages::Event {
            header: self.header(camera),
            id: event.id.to_string(),
            kind,
            changed,
            reason,
            at: event.at,
            started_at: event.started_at,
            seen_at: event.seen_at,
            duration_s: event.duration.as_secs_f64(),
            label: self.label(event.label),
            label_path: self.label_path(event.label),
            sub_label: self.sub_label(event.finer_class),
            score: event.score,
            size: size(event.size),
            r#box: event.rect.to_pixels(event.size),
            moving: event.moving,
            zones: names(&event.zones),
            visited_zones: names(&event.visited),
            path: event.path.iter().map(|&(x, y)| [x.round() as i64, y.round() as i64]).collect(),
            captured: frame.map(|frame| frame.timings.captured),
            picture: None,
            best: messages::Best {
                at: event.best.at,
                r#box: event.best.rect.to_pixels(event.size),
                pictures,
            },
            links,
        }
    }

    /// The name of a label.
    fn label(&self, label: Option<usize>) -> String {
        self.model.taxonomy.name_or_unknown(label).to_string()
    }

    /// The names of a label and of those that contain it, from general to specific.
    fn label_path(&self, label: Option<usize>) -> Vec<String> {
        let taxonomy = &self.model.taxonomy;
        let lineage = label.into_iter().flat_map(|label| taxonomy.lineage(label));
        let mut path: Vec<String> = lineage.map(|label| taxonomy.name(label).to_string()).collect();
        path.reverse();
        path
    }

    fn sub_label(&self, finer_class: Option<usize>) -> Option<String> {
        finer_class.map(|class| self.model.labels.get(class).to_string())
    }

    /// An object of a frame.
    pub(super) fn object(&self, object: &Object, frame_size: (f64, f64)) -> messages::Object {
        messages::Object {
            id: object.id.to_string(),
            label: self.label(object.label),
            sub_label: self.sub_label(object.finer_class),
            score: object.score,
            r#box: object.rect.to_pixels(frame_size),
            moving: object.moving,
            visible: object.visible,
            top: self.model.name_classes(&object.top),
        }
    }
}

/// Converts to whole pixels: width and height.
pub(super) fn size((width, height): (f64, f64)) -> Size {
    [width.round() as u32, height.round() as u32]
}
