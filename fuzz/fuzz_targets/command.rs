//! Parses arbitrary payloads as commands: each is rejected, or all values of the parsed command are in range.

#![no_main]

#[path = "../../src/publish/commands/request.rs"]
mod request;

use libfuzzer_sys::fuzz_target;
use request::{CameraCommand, NodeCommand, Request};

fuzz_target!(|payload: &[u8]| {
    let Ok(request) = Request::read(payload) else { return };
    assert!(payload.len() <= 4096);
    assert!(request.id.as_ref().is_none_or(|id| id.chars().count() <= 128));
    let named = request.name().map(str::to_string);
    match request.for_camera() {
        Ok(CameraCommand::Set { rate_fps, motion_threshold, score }) => {
            assert!(rate_fps.or(motion_threshold).or(score).is_some());
            assert!(rate_fps.is_none_or(|rate| (0.01..=1000.0).contains(&rate)));
            assert!(motion_threshold.is_none_or(|threshold| (1.0..=255.0).contains(&threshold)));
            assert!(score.is_none_or(|score| (0.01..=1.0).contains(&score)));
        }
        Ok(_) => assert!(named.is_some()),
        Err(why) => assert!(!why.is_empty()),
    }
    match Request::read(payload).expect("the payload was parsed before").for_node() {
        Ok(NodeCommand::History { limit, .. }) => assert!((1..=1000).contains(&limit)),
        Ok(_) => assert!(named.is_some()),
        Err(why) => assert!(!why.is_empty()),
    }
});
