//! The setup of a camera's view: what is drawn on its picture, and a few numbers. It is saved in a file of
//! its own, which is a layer of the configuration, and takes effect by a reload.

use super::{
    body,
    response::{ApiError, Json},
};
use crate::{
    config::{
        self, Camera, Loaded, Location, Problems,
        page::{CameraSettings, FILE_NAME, RegionSettings, Settings, Source},
    },
    control::PageSettings,
    files,
    web::app_state::AppState,
};
use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io, sync::Arc, time::Duration};
use tokio::{task, time};

/// Maximum size of the file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Maximum time until a reload has taken effect.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is checked.
const RELOAD_POLL: Duration = Duration::from_millis(50);
/// Maximum number of polygons, of corners of each, and length of a name. A page draws far fewer.
const MAX_POLYGONS: usize = 100;
const MAX_CORNERS: usize = 200;
const MAX_NAME_BYTES: usize = 64;

type Polygon = Vec<[f64; 2]>;

/// Values of a camera's view. In requests, those that are absent are not set on the page.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Values {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    masks: Option<Vec<Polygon>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zones: Option<BTreeMap<String, Polygon>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    regions: Option<BTreeMap<String, Region>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) motion_threshold: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_size: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Region {
    rect: [f64; 4],
    /// Only in answers.
    #[serde(default)]
    labels: Vec<String>,
}

/// A camera's view and where its values come from.
#[derive(Serialize)]
struct Setup {
    values: Values,
    /// What was set on the page.
    page: Values,
    /// `config`, `page` or `default`, by value.
    origins: BTreeMap<&'static str, &'static str>,
    /// File and line, by value.
    #[serde(rename = "where")]
    places: BTreeMap<&'static str, Option<String>>,
    can_save: bool,
    why_not: Option<String>,
}

#[derive(Serialize)]
struct Unsaved {
    error: String,
    problems: Vec<UnsavedProblem>,
}

/// A value that cannot be saved.
#[derive(Serialize)]
pub(super) struct UnsavedProblem {
    /// Relative to the camera, such as `zones.lawn`.
    key: String,
    message: String,
}

impl From<&CameraSettings> for Values {
    fn from(settings: &CameraSettings) -> Values {
        let CameraSettings { motion_threshold, min_size, score, masks, zones, regions } = settings.clone();
        let region = |(name, region): (String, RegionSettings)| {
            (name, Region { rect: region.r#box, labels: Vec::new() })
        };
        let regions = regions.map(|regions| regions.into_iter().map(region).collect());
        Values { masks, zones, regions, motion_threshold, min_size, score }
    }
}

impl From<Values> for CameraSettings {
    fn from(values: Values) -> CameraSettings {
        let Values { masks, zones, regions, motion_threshold, min_size, score } = values;
        let region = |(name, region): (String, Region)| (name, RegionSettings { r#box: region.rect });
        let regions = regions.map(|regions| regions.into_iter().map(region).collect());
        CameraSettings { motion_threshold, min_size, score, masks, zones, regions }
    }
}

/// `GET /api/v1/cameras/NAME/setup`
pub async fn get(State(app): State<Arc<AppState>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    blocking(move || setup(&app, &name)).await.map(|setup| Json(setup).into_response())
}

/// `PUT /api/v1/cameras/NAME/setup`: replaces what was set on the page.
pub async fn put(
    State(app): State<Arc<AppState>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let values: Values = body(&headers, &bytes)?;
    change(app, name, Some(values)).await
}

/// `DELETE /api/v1/cameras/NAME/setup`: forgets what was set on the page.
pub async fn delete(
    State(app): State<Arc<AppState>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    change(app, name, None).await
}

#[derive(Serialize)]
struct Text {
    toml: String,
}

/// `POST /api/v1/cameras/NAME/setup/toml`: the values as text for the configuration file.
pub async fn toml(
    State(app): State<Arc<AppState>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    app.camera(&name).ok_or_else(|| ApiError::not_found("camera"))?;
    let values: Values = body(&headers, &bytes)?;
    let settings = Settings { cameras: BTreeMap::from([(name, values.into())]) };
    // Without the comment of the file.
    let toml = settings.to_text().lines().skip(1).map(|line| format!("{line}\n")).collect();
    Ok(Json(Text { toml }).into_response())
}

/// Runs what reads or writes files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the settings could not be read");
    task::spawn_blocking(work).await.map_err(failed)?
}

fn page(app: &AppState) -> Result<&PageSettings, ApiError> {
    let missing = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "this node has no configuration file");
    app.node_control.page.as_ref().ok_or_else(missing)
}

/// The settings on disk.
fn read(page: &PageSettings) -> Settings {
    let Some(file) = &page.file else { return Settings::default() };
    let text = files::read_bounded(file, MAX_FILE_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    // A damaged file is set aside by the next reload.
    text.and_then(|text| Settings::parse(&text).ok()).unwrap_or_default()
}

fn unloadable(problems: &Problems) -> ApiError {
    let first = problems.iter().next().map(ToString::to_string).unwrap_or_default();
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("the configuration on disk is invalid: {first}"))
}

fn setup(app: &AppState, name: &str) -> Result<Setup, ApiError> {
    let page = page(app)?;
    let source = page.file.clone().map_or(Source::None, Source::File);
    let loaded = (page.load)(source).map_err(|problems| unloadable(&problems))?;
    let camera = loaded.config.cameras.iter().find(|camera| camera.name == name);
    let camera = camera.ok_or_else(|| ApiError::not_found("camera"))?;
    let saved = read(page).cameras.get(name).map(Values::from).unwrap_or_default();
    let mut places = BTreeMap::new();
    let mut origins = BTreeMap::new();
    let is_saved = [
        ("masks", saved.masks.is_some()),
        ("zones", saved.zones.is_some()),
        ("regions", saved.regions.is_some()),
        ("motion_threshold", saved.motion_threshold.is_some()),
        ("min_size", saved.min_size.is_some()),
        ("score", saved.score.is_some()),
    ];
    for (key, is_saved) in is_saved {
        let place = place(&loaded, &format!("cameras.{name}.{key}"));
        let origin = match &place {
            _ if is_saved => "page",
            Some(_) => "config",
            None => "default",
        };
        origins.insert(key, origin);
        places.insert(key, place);
    }
    let why_not = page.file.is_none().then(|| {
        "there is no state directory: run camfire as a service, or set $STATE_DIRECTORY".to_string()
    });
    Ok(Setup {
        values: values_of(camera),
        page: saved,
        origins,
        places,
        can_save: why_not.is_none(),
        why_not,
    })
}

/// Where a value, or the first one below it, was set.
fn place(loaded: &Loaded, key: &str) -> Option<String> {
    let location =
        loaded.locations.of(key).or_else(|| loaded.locations.below(key).map(|(_, at)| at).next())?;
    Some(match location {
        Location::File { name, line: Some(line), .. } => format!("{name}:{line}"),
        Location::File { name, line: None, .. } => name.clone(),
        Location::Environment(name) => format!("{name} (environment)"),
        Location::Flag => "--set".to_string(),
        Location::Unset => return None,
    })
}

fn values_of(camera: &Camera) -> Values {
    let polygon = |corners: &Vec<(f64, f64)>| -> Polygon { corners.iter().map(|&(x, y)| [x, y]).collect() };
    let region = |region: &config::Region| {
        let config::Region { left, top, width, height, .. } = *region;
        (region.name.clone(), Region { rect: [left, top, width, height], labels: region.labels.clone() })
    };
    Values {
        masks: Some(camera.masks.iter().map(polygon).collect()),
        zones: Some(camera.zones.iter().map(|(name, corners)| (name.clone(), polygon(corners))).collect()),
        regions: Some(camera.regions.iter().map(region).collect()),
        motion_threshold: Some(camera.motion.threshold),
        min_size: Some(camera.motion.min_size),
        score: Some((f64::from(camera.score) * 1e6).round() / 1e6),
    }
}

/// Replaces what was set on the page for a camera, and waits until it applies.
async fn change(app: Arc<AppState>, name: String, values: Option<Values>) -> Result<Response, ApiError> {
    let camera = app.camera(&name).ok_or_else(|| ApiError::not_found("camera"))?;
    if let Some(problem) = values.as_ref().and_then(|values| out_of_bounds(values, &camera.config)) {
        return Ok(refuse(vec![problem]));
    }
    // One change after the other: each replaces the whole file.
    let _turn = app.setup_lock.lock().await;
    let (writer, camera_name) = (app.clone(), name.clone());
    let (problems, wanted) = blocking(move || {
        let problems = write(&writer, &camera_name, values)?;
        Ok((problems, setup(&writer, &camera_name)?))
    })
    .await?;
    if !problems.is_empty() {
        return Ok(refuse(problems));
    }
    let deadline = app.clock.monotonic() + RELOAD_TIMEOUT;
    while app.camera(&name).is_some_and(|camera| values_of(&camera.config) != wanted.values) {
        if app.clock.monotonic() >= deadline {
            let text = "the settings are saved, but camfire has not taken them yet; its log says why";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        time::sleep(RELOAD_POLL).await;
    }
    Ok(Json(wanted).into_response())
}

/// Why values are too many, or name what does not exist.
pub(super) fn out_of_bounds(values: &Values, camera: &Camera) -> Option<UnsavedProblem> {
    let problem = |key: &str, message: String| Some(UnsavedProblem { key: key.to_string(), message });
    let zones = values.zones.iter().flatten();
    let masks: Vec<&Polygon> = values.masks.iter().flatten().collect();
    let outlines: Vec<&Polygon> = zones.clone().map(|(_, corners)| corners).collect();
    for (key, polygons) in [("masks", masks), ("zones", outlines)] {
        if polygons.len() > MAX_POLYGONS {
            return problem(key, format!("there may be at most {MAX_POLYGONS}"));
        }
        if polygons.iter().any(|corners| corners.len() > MAX_CORNERS) {
            return problem(key, format!("a polygon may have at most {MAX_CORNERS} corners"));
        }
    }
    if let Some((name, _)) = zones.clone().find(|(name, _)| name.len() > MAX_NAME_BYTES) {
        return problem("zones", format!("the name '{name}' is too long"));
    }
    let unknown = values
        .regions
        .iter()
        .flatten()
        .find(|(name, _)| !camera.regions.iter().any(|region| region.name == **name));
    unknown.and_then(|(name, _)| {
        let text = "there is no such region in the configuration, which must list its labels";
        problem(&format!("regions.{name}"), text.to_string())
    })
}

pub(super) fn refuse(problems: Vec<UnsavedProblem>) -> Response {
    let error =
        problems.first().map(|problem| format!("{}: {}", problem.key, problem.message)).unwrap_or_default();
    (StatusCode::UNPROCESSABLE_ENTITY, Json(Unsaved { error, problems })).into_response()
}

/// Loads the configuration with other settings of the page. The inner error has the problems of a camera's
/// values.
fn load(
    page: &PageSettings,
    name: &str,
    text: String,
) -> Result<Result<Loaded, Vec<UnsavedProblem>>, ApiError> {
    let problems = match (page.load)(Source::Text(text)) {
        Ok(loaded) => return Ok(Ok(loaded)),
        Err(problems) => problems,
    };
    let prefix = format!("cameras.{name}.");
    let own: Vec<UnsavedProblem> = problems
        .iter()
        .filter(|problem| matches!(&problem.location, Location::File { name, .. } if name == FILE_NAME))
        .map(|problem| UnsavedProblem {
            key: problem.key.strip_prefix(&prefix).unwrap_or(&problem.key).to_string(),
            message: problem.rule.clone(),
        })
        .collect();
    if own.is_empty() { Err(unloadable(&problems)) } else { Ok(Err(own)) }
}

/// A camera as it would be if these values were saved. The inner error has their problems.
pub(super) fn camera_with(
    app: &AppState,
    name: &str,
    values: Values,
) -> Result<Result<Camera, Vec<UnsavedProblem>>, ApiError> {
    let page = page(app)?;
    let mut settings = read(page);
    settings.cameras.insert(name.to_string(), values.into());
    let loaded = match load(page, name, settings.to_text())? {
        Ok(loaded) => loaded,
        Err(problems) => return Ok(Err(problems)),
    };
    let camera = loaded.config.cameras.into_iter().find(|camera| camera.name == name);
    camera.map(Ok).ok_or_else(|| ApiError::not_found("camera"))
}

/// Writes the file and requests a reload. Returns the problems of the values; nothing is written then.
fn write(app: &AppState, name: &str, values: Option<Values>) -> Result<Vec<UnsavedProblem>, ApiError> {
    let page = page(app)?;
    let Some(file) = &page.file else {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no state directory to save settings in",
        ));
    };
    let mut settings = read(page);
    let (sets_threshold, sets_score) =
        values.as_ref().map_or((false, false), |v| (v.motion_threshold.is_some(), v.score.is_some()));
    match values {
        Some(values) => settings.cameras.insert(name.to_string(), values.into()),
        None => settings.cameras.remove(name),
    };
    let text = settings.to_text();
    if let Err(problems) = load(page, name, text.clone())? {
        return Ok(problems);
    }
    let unsaved = |error: io::Error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the settings cannot be saved: {error}"))
    };
    files::replace_durably(file, text.as_bytes(), |_| Ok(())).map_err(unsaved)?;
    // A command's value would hide the new one.
    if let Some(camera) = app.camera(name).filter(|_| sets_threshold || sets_score) {
        let forget = |saved: &mut crate::control::saved::SavedCamera| {
            saved.motion_threshold = saved.motion_threshold.filter(|_| !sets_threshold);
            saved.score = saved.score.filter(|_| !sets_score);
        };
        camera.control.change(forget).map_err(unsaved)?;
    }
    let Some(validate) = &app.node_control.validate_config else { return Ok(Vec::new()) };
    validate().map_err(|problems| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the settings are saved, but the reload is refused: {problems}"),
        )
    })?;
    app.node_control.request_reload();
    Ok(Vec::new())
}
