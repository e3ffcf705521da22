//! The thread that reads an HTTP camera during one attempt.
//!
//! It runs one future on a runtime of its own, so that every wait ends when the attempt does. The output may
//! block it: then the camera's data wait in the network.

use super::{
    Bytes, Content,
    client::{self, Answer, Client},
    jpeg,
    multipart::Multipart,
    playlist::{self, Media, Playlist, Segment},
};
use crate::{
    camera::{Failure, FailureKind},
    config::Login,
    lifecycle,
};
use hyper::Uri;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

/// Time for one still, from the connection to its last byte.
pub const STILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an HTTP camera that has sent stills may send none that can be used. Longer than one late still.
pub const STILL_PATIENCE: Duration = Duration::from_secs(10);
/// Stills in a row that cannot be used, before that is a failure.
const MAX_BAD_STILLS: u32 = 3;
/// After a still that cannot be used, the longest pause.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Images without an end marker, from the first one on, after which the camera is taken to send none.
const ENDLESS_IMAGES: u32 = 5;
/// Bytes of an HLS playlist.
const MAX_PLAYLIST_BYTES: usize = 1 << 20;
/// Segments of a live HLS stream that are left when it is joined.
const LIVE_SEGMENTS: u64 = 3;
/// Playlists or segments in a row that cannot be had, before that is a failure.
const MAX_HLS_FAILURES: u32 = 3;
/// Master playlists that may name each other.
const MAX_PLAYLIST_DEPTH: u32 = 3;

/// What to read.
pub struct Plan {
    /// The camera's name, for the thread's.
    pub name: String,
    /// The URL without credentials.
    pub url: String,
    /// User name and password.
    pub login: Option<Login>,
    /// Whether the certificate of an `https://` camera must be valid.
    pub verify_tls: bool,
    /// What the pipeline is for.
    pub content: Content,
    /// The pipeline is the only one that the user wants, so it plays every stream that it can.
    pub only: bool,
}

/// Where the images or bytes go.
pub trait Output: Send + 'static {
    /// Passes on a whole JPEG image, or the next bytes of a stream. `at`: when a still was requested, since
    /// the first one. Returns false once the pipeline is closed.
    fn push(&mut self, data: Bytes, at: Option<Duration>) -> bool;
    /// An image was skipped.
    fn skip(&mut self, reason: String);
    /// The interval at which stills are requested.
    fn still_interval(&self) -> Duration;
    /// Reading is over; called once.
    fn end(&mut self, result: Result<(), Failure>);
}

/// A running reader. Stops when it is dropped.
pub struct Reader {
    _stop: oneshot::Sender<()>,
}

impl Reader {
    /// Starts to read.
    ///
    /// Errors: the system cannot start a thread.
    pub fn start(plan: Plan, mut output: impl Output) -> std::io::Result<Reader> {
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        lifecycle::spawn_helper(&format!("http-{}", plan.name), move || {
            let work = async {
                tokio::select! {
                    result = read(&plan, &mut output) => output.end(result),
                    _ = stopped => {}
                }
            };
            runtime.block_on(work);
            // A name resolution may still run.
            runtime.shutdown_background();
        })?;
        Ok(Reader { _stop: stop })
    }
}

async fn read(plan: &Plan, output: &mut impl Output) -> Result<(), Failure> {
    let mut client = Client::new(&plan.url, plan.login.clone(), plan.verify_tls)?;
    if plan.content == Content::Still {
        return stills(plan, &mut client, output).await;
    }
    let url = client.url().clone();
    let mut answer = client.get(&url, None).await?;
    let content = plan.content_of(&mut answer).await?;
    match content {
        Content::Mjpeg | Content::Still => mjpeg(answer, output).await,
        Content::Stream => stream(answer, output).await.map(drop),
        Content::Hls => hls(&mut client, answer, output).await,
    }
}

impl Plan {
    /// What an answer is to be read as.
    ///
    /// Errors: nothing that this pipeline is for.
    async fn content_of(&self, answer: &mut Answer) -> Result<Content, Failure> {
        let media_type = answer.media_type.clone();
        let start = answer.peek().await?;
        match Content::detect(&media_type, start) {
            Some(content) if content == self.content => Ok(content),
            Some(Content::Stream) if self.content == Content::Hls && self.only => Ok(Content::Stream),
            Some(content) => {
                let reason = format!("the camera sends {content}, which this pipeline is not for");
                Err(Failure::new(FailureKind::OtherContent(content), reason))
            }
            None if start.is_empty() => Err(unsupported("the answer is empty")),
            None if media_type.starts_with("text/") => {
                Err(unsupported(&format!("the answer is {}, no image or video", media_type.escape_debug())))
            }
            None if self.content == Content::Still => Err(unsupported(&jpeg::Fault::NotJpeg.to_string())),
            None => Ok(self.content),
        }
    }
}

/// Accepts images that are whole.
#[derive(Default)]
struct Images {
    /// Some image had an end marker.
    some_end: bool,
    /// Images without one.
    without_end: u32,
}

impl Images {
    /// Returns the image at the start of `data`.
    fn accept(&mut self, mut data: Vec<u8>) -> Result<Bytes, jpeg::Fault> {
        match jpeg::check(&data) {
            Ok(len) => {
                self.some_end = true;
                data.truncate(len);
            }
            // A few cameras leave the end marker out.
            Err(jpeg::Fault::CutOff) if !self.some_end && self.without_end >= ENDLESS_IMAGES => {}
            Err(fault) => {
                self.without_end += u32::from(fault == jpeg::Fault::CutOff);
                return Err(fault);
            }
        }
        Ok(data.into())
    }
}

async fn mjpeg(mut answer: Answer, output: &mut impl Output) -> Result<(), Failure> {
    let (mut multipart, mut parts, mut images) = (Multipart::default(), Vec::new(), Images::default());
    while let Some(chunk) = answer.chunk().await? {
        multipart.feed(&chunk, &mut parts).map_err(|reason| unsupported(&reason))?;
        for part in parts.drain(..).filter(|part| part.is_image) {
            match images.accept(part.data) {
                Ok(image) => {
                    if !output.push(image, None) {
                        return Ok(());
                    }
                }
                Err(fault) => output.skip(fault.to_string()),
            }
        }
        // So much may arrive at once that nothing else would ever run.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Passes an answer on. Returns false if the pipeline is closed.
async fn stream(mut answer: Answer, output: &mut impl Output) -> Result<bool, Failure> {
    while let Some(chunk) = answer.chunk().await? {
        if !output.push(chunk, None) {
            return Ok(false);
        }
        tokio::task::yield_now().await;
    }
    Ok(true)
}

/// Requests one still after the other. One that is bad or late is skipped.
async fn stills(plan: &Plan, client: &mut Client, output: &mut impl Output) -> Result<(), Failure> {
    let start = Instant::now();
    let (mut next, mut last_good, mut bad) = (start, None::<Instant>, 0);
    let mut images = Images::default();
    loop {
        time::sleep_until(next).await;
        let still = time::timeout(STILL_TIMEOUT, still(plan, client, &mut images)).await;
        let mut pause = output.still_interval();
        match still.unwrap_or_else(|_| Err(client::late())) {
            Ok(image) => {
                if !output.push(image, Some(next - start)) {
                    return Ok(());
                }
                (last_good, bad) = (Some(Instant::now()), 0);
            }
            Err(failure) => {
                bad += 1;
                let is_over = match failure.kind {
                    FailureKind::Denied => true,
                    FailureKind::OtherContent(_) if last_good.is_none() => true,
                    FailureKind::Unreachable if last_good.is_none() && !client.is_answered() => true,
                    _ => {
                        let silence = last_good.map(|last_good| last_good.elapsed());
                        bad >= MAX_BAD_STILLS && silence.is_none_or(|silence| silence >= STILL_PATIENCE)
                    }
                };
                if is_over {
                    return Err(failure);
                }
                output.skip(failure.reason);
                pause = pause.min(MAX_RETRY_PAUSE);
            }
        }
        next = (next + pause).max(Instant::now());
    }
}

async fn still(plan: &Plan, client: &mut Client, images: &mut Images) -> Result<Bytes, Failure> {
    let url = client.url().clone();
    let mut answer = client.get(&url, None).await?;
    if answer.length == Some(0) {
        return Err(unsupported(&jpeg::Fault::Empty.to_string()));
    }
    plan.content_of(&mut answer).await?;
    let has_length = answer.length.is_some();
    // Some cameras announce no length and keep the connection open.
    let is_whole = |data: &[u8]| !has_length && data.ends_with(&jpeg::END) && jpeg::check(data).is_ok();
    let data = answer.whole(jpeg::byte_limit, is_whole).await?;
    images.accept(data).map_err(|fault| unsupported(&fault.to_string()))
}

/// Plays an HLS stream: the newest segments of a live one, or all of a recording.
async fn hls(client: &mut Client, answer: Answer, output: &mut impl Output) -> Result<(), Failure> {
    let (mut url, mut text) = playlist_text(answer).await?;
    let (mut depth, mut failures) = (0, 0);
    let mut position = Position::default();
    loop {
        match playlist::parse(&text).map_err(|reason| unsupported(&reason))? {
            Playlist::Master(address) => {
                depth += 1;
                if depth > MAX_PLAYLIST_DEPTH {
                    return Err(unsupported("the HLS playlists name each other"));
                }
                url = resolve(&url, &address)?;
            }
            Playlist::Media(media) => {
                let segments = position.new_segments(&media);
                let mut pause = Duration::from_secs_f64(media.target_s.clamp(1.0, 10.0));
                if segments.is_empty() {
                    pause /= 2;
                }
                for segment in segments {
                    match play_segment(client, &url, segment, &mut position, output).await {
                        Ok(true) => failures = 0,
                        Ok(false) => return Ok(()),
                        Err(failure) => give_up_or_count(failure, &mut failures)?,
                    }
                }
                if media.ended {
                    return Ok(());
                }
                time::sleep(pause).await;
            }
        }
        text = loop {
            let playlist = match client.get(&url, None).await {
                Ok(answer) => playlist_text(answer).await,
                Err(failure) => Err(failure),
            };
            match playlist {
                Ok((_, text)) => break text,
                Err(failure) => give_up_or_count(failure, &mut failures)?,
            }
            time::sleep(MAX_RETRY_PAUSE).await;
        };
    }
}

/// Counts a failure of an HLS stream.
///
/// Errors: it is one too many.
fn give_up_or_count(failure: Failure, failures: &mut u32) -> Result<(), Failure> {
    *failures += 1;
    if *failures >= MAX_HLS_FAILURES || failure.kind != FailureKind::Unreachable {
        return Err(failure);
    }
    tracing::debug!(reason = failure.reason, "HLS playlist or segment skipped.");
    Ok(())
}

/// How far an HLS stream has been played.
#[derive(Default)]
struct Position {
    /// Number of the next segment.
    next: Option<u64>,
    /// What the last segment was preceded by.
    init: Option<Arc<Segment>>,
}

impl Position {
    /// The segments that have not been played, which count as played from now on.
    fn new_segments<'a>(&mut self, media: &'a Media) -> &'a [Segment] {
        let end = media.first.saturating_add(media.segments.len() as u64);
        let joined =
            if media.ended { media.first } else { end.saturating_sub(LIVE_SEGMENTS).max(media.first) };
        let from = match self.next {
            // The server has started again.
            Some(next) if next > end => joined,
            Some(next) => next.max(media.first),
            None => joined,
        };
        self.next = Some(end);
        media.segments.get((from - media.first) as usize..).unwrap_or_default()
    }
}

/// Passes a segment on, and what must precede it. Returns false if the pipeline is closed.
async fn play_segment(
    client: &mut Client,
    playlist: &Uri,
    segment: &Segment,
    position: &mut Position,
    output: &mut impl Output,
) -> Result<bool, Failure> {
    if segment.init != position.init {
        if let Some(init) = &segment.init
            && !stream(client.get(&resolve(playlist, &init.address)?, init.range).await?, output).await?
        {
            return Ok(false);
        }
        position.init.clone_from(&segment.init);
    }
    stream(client.get(&resolve(playlist, &segment.address)?, segment.range).await?, output).await
}

async fn playlist_text(answer: Answer) -> Result<(Uri, String), Failure> {
    let url = answer.url.clone();
    let text = answer.whole(|_| MAX_PLAYLIST_BYTES, |_| false).await?;
    Ok((url, String::from_utf8_lossy(&text).into_owned()))
}

fn resolve(playlist: &Uri, address: &str) -> Result<Uri, Failure> {
    client::join(playlist, address)
        .ok_or_else(|| unsupported("the HLS playlist names an address that is not HTTP"))
}

fn unsupported(reason: &str) -> Failure {
    Failure::new(FailureKind::Unsupported, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(first: u64, len: usize, ended: bool) -> Media {
        let segment =
            |i| Segment { address: format!("{}.ts", first.saturating_add(i as u64)), ..Segment::default() };
        Media { target_s: 2.0, first, segments: (0..len).map(segment).collect(), ended }
    }

    #[test]
    fn a_live_stream_is_joined_near_its_end_and_followed() {
        let mut position = Position::default();
        let mut played = |media: &Media| -> Vec<String> {
            position.new_segments(media).iter().map(|segment| segment.address.clone()).collect()
        };
        assert_eq!(played(&media(10, 6, false)), ["13.ts", "14.ts", "15.ts"]);
        assert!(played(&media(10, 6, false)).is_empty());
        assert_eq!(played(&media(12, 5, false)), ["16.ts"]);
        // Too slow to follow, and a server that starts again.
        assert_eq!(played(&media(30, 2, false)), ["30.ts", "31.ts"]);
        assert_eq!(played(&media(0, 4, false)), ["1.ts", "2.ts", "3.ts"]);
        assert_eq!(Position::default().new_segments(&media(5, 2, true)).len(), 2);
        assert!(Position::default().new_segments(&media(u64::MAX, 2, false)).len() <= 3);
    }

    #[test]
    fn a_camera_that_never_sends_end_markers_is_accepted_after_a_few_images() {
        let image = jpeg::tests::image();
        let without_end = || image[..image.len() - 2].to_vec();
        let mut images = Images::default();
        let accepted: Vec<bool> = (0..7).map(|_| images.accept(without_end()).is_ok()).collect();
        assert_eq!(accepted, [false, false, false, false, false, true, true]);
        // Of a camera that sends them, an image without one is incomplete.
        let mut images = Images::default();
        assert_eq!(images.accept(image.clone()).unwrap().len(), image.len());
        assert!((0..9).all(|_| images.accept(without_end()).is_err()));
    }
}
