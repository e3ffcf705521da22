//! What the engine takes from the allocator, counted: nothing while running, and no more while loading than the file
//! gives reason for.
//!
//! One test, because the counts are of the whole process.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what went wrong by failing there")]

use engine::{Features, KernelSet, Model, model::Options};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is; counting touches nothing else.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` allocated at its most beyond what was there before, and how often it asked.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let (calls, live) = (CALLS.load(Relaxed), LIVE.load(Relaxed));
    PEAK.store(live, Relaxed);
    let result = work();
    (result, PEAK.load(Relaxed) - live, CALLS.load(Relaxed) - calls)
}

/// For tables of steps and names, whatever the size of the file.
const SMALL: usize = 512 << 10;

#[test]
fn runs_allocate_nothing_and_loading_no_more_than_the_file_gives_reason_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = std::fs::read(root.join("../models/squeezenet_v1.1_int8.tflite")).unwrap();
    let features = Features::detect();
    for set in KernelSet::ALL.into_iter().filter(|&set| features.have(set) && set != KernelSet::Scalar) {
        let options = Options { cap: Some(set), keep: &[] };
        let (model, peak, _) = counted(|| Model::from_bytes(&shipped, &options).unwrap());
        assert!(peak <= 4 * shipped.len() + SMALL, "{}: {peak} bytes to load", set.name());
        let (mut session, peak, _) = counted(|| model.session());
        assert!(peak < 4 << 20, "{}: {peak} bytes for a session", set.name());
        let picture = vec![128; session.input_len()];
        let (result, _, calls) = counted(|| session.run(&picture));
        result.unwrap();
        assert_eq!(calls, 0, "{}", set.name());
    }
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize
    };
    for entry in std::fs::read_dir(root.join("tests/data/operators")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "tflite") {
            continue;
        }
        let whole = std::fs::read(&path).unwrap();
        let model = Model::from_bytes(&whole, &Options::default()).unwrap();
        let mut session = model.session();
        let input = vec![0; session.input_len()];
        let (result, _, calls) = counted(|| session.run(&input));
        result.unwrap();
        assert_eq!(calls, 0, "{}", path.display());
        for _ in 0..200 {
            let mut broken = whole.clone();
            for _ in 0..1 + next() % 4 {
                let position = next() % broken.len();
                broken[position] = [0, 1, 0x7f, 0x80, 0xff][next() % 5];
            }
            let (_, peak, _) = counted(|| Model::from_bytes(&broken, &Options::default()).map(drop));
            assert!(peak <= 4 * broken.len() + SMALL, "{}: {peak} of {}", path.display(), broken.len());
        }
    }
}
