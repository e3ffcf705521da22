//! The frame queues between cameras and workers.
//!
//! Each camera has one [`Slot`]: at most one frame with a worker and one waiting. A newer frame replaces the
//! waiting one, because a late frame is useless. Cameras with a waiting frame are in one ready queue and are
//! served in turn, so a busy camera cannot starve a quiet one. Offering a frame never blocks.
//!
//! The analysis state of a camera (`T`) travels with its frame in a [`Job`]: only one worker holds it at a
//! time, and no lock is held while it is used. The camera's side of the slot does not depend on `T`.
//!
//! Cameras come and go while the others run. A slot outlives a camera that is opened anew, so its counts go
//! on.
//!
//! Invariant of a slot, at every moment:
//! `captured = analysed + skipped_rate + skipped_still + shed + dropped + failed + pending`.

use crate::{frame::Frame, sync::lock};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Frame counts of one camera, by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct FrameCounts {
    /// Frames that the camera sent, decoded or not.
    pub captured: u64,
    /// Frames that a worker analysed.
    pub analysed: u64,
    /// Frames skipped to keep to the camera's rate, or because only keyframes are wanted.
    pub skipped_rate: u64,
    /// Frames that were not decoded because the scene was still.
    pub skipped_still: u64,
    /// Frames that were not decoded because decoding could not keep up.
    pub shed: u64,
    /// Frames replaced by a newer one before a worker was free, or still waiting when camfire stopped.
    pub dropped: u64,
    /// Frames that could not be analysed.
    pub failed: u64,
    /// Frames waiting or with a worker: 0 to 2.
    pub pending: u64,
}

impl FrameCounts {
    /// Whether every captured frame has an outcome.
    #[cfg(test)]
    pub fn add_up(&self) -> bool {
        let not_decoded = self.skipped_rate + self.skipped_still + self.shed;
        self.captured == self.analysed + not_decoded + self.dropped + self.failed + self.pending
    }
}

/// One camera's side of the frame queues.
pub struct Slot {
    /// Never used for another slot.
    number: usize,
    state: Mutex<SlotState>,
    /// Notified when a frame has left the slot, and when a job has ended. Sources that can wait block on it.
    vacated: Condvar,
    ready: Sender<Arc<Slot>>,
}

struct SlotState {
    waiting: Option<Frame>,
    /// An interruption of the stream before the waiting frame. Of several in a row, the first one counts.
    before: Option<Interruption>,
    /// An interruption after the waiting frame. Only set while a frame is waiting.
    after: Option<Interruption>,
    /// A worker holds the camera's state.
    in_flight: bool,
    /// The slot is in the ready queue.
    queued: bool,
    closed: bool,
    counts: FrameCounts,
}

/// Why a camera sends no frames for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The camera failed.
    Failed,
    /// The recording ended.
    Ended,
}

/// Where each camera's state waits while no worker holds it, by the number of its slot.
type States<T> = Arc<Mutex<BTreeMap<usize, Box<T>>>>;

/// Work for a worker: the next frame of a camera with the camera's state, or an interruption of its stream,
/// or both.
///
/// Ends with [`Job::finish`]. If it is dropped without that, as in a panic, the frame counts as failed.
pub struct Job<T> {
    /// The interruption before the frame.
    pub interruption: Option<Interruption>,
    /// The frame. None if the job only reports an interruption.
    pub frame: Option<Frame>,
    /// The job has a frame to count.
    counts: bool,
    slot: Arc<Slot>,
    states: States<T>,
    /// Set until the job is dropped.
    state: Option<Box<T>>,
    outcome: Outcome,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The frame was analysed.
    Analysed,
    /// The frame could not be analysed.
    Failed,
}

/// The states of all cameras and the queue of the slots that are ready.
pub struct FrameQueues<T> {
    next_number: usize,
    states: States<T>,
    ready_sender: Sender<Arc<Slot>>,
    ready: Receiver<Arc<Slot>>,
}

impl<T> FrameQueues<T> {
    /// Queues without cameras.
    pub fn new() -> FrameQueues<T> {
        // Bounded by the number of slots, because a slot is in the ready queue at most once.
        let (ready_sender, ready) = crossbeam_channel::unbounded();
        FrameQueues { next_number: 0, states: Arc::default(), ready_sender, ready }
    }

    /// Adds a camera with its analysis state.
    pub fn add(&mut self, state: T) -> Arc<Slot> {
        let number = self.next_number;
        self.next_number += 1;
        lock(&self.states).insert(number, Box::new(state));
        Arc::new(Slot {
            number,
            state: Mutex::new(SlotState {
                waiting: None,
                before: None,
                after: None,
                in_flight: false,
                queued: false,
                closed: false,
                counts: FrameCounts::default(),
            }),
            vacated: Condvar::new(),
            ready: self.ready_sender.clone(),
        })
    }

    /// A worker's end of the queues.
    pub fn jobs(&self) -> Jobs<T> {
        Jobs { states: self.states.clone(), ready: self.ready.clone() }
    }

    /// Takes out the state of a camera that sends nothing any more, after the job that holds it. A frame that
    /// is still waiting counts as dropped, and what else waits is forgotten. None if the job does not end
    /// within `timeout`.
    pub fn withdraw(&self, slot: &Slot, timeout: Duration) -> Option<Box<T>> {
        let mut state = slot.lock();
        (state.before, state.after) = (None, None);
        drop_waiting(&mut state);
        slot.vacated.notify_all();
        drop(self.wait_for_job(slot, state, timeout));
        lock(&self.states).remove(&slot.number)
    }

    /// Gives a state to a camera whose state was withdrawn.
    pub fn restore(&self, slot: &Slot, state: T) {
        lock(&self.states).insert(slot.number, Box::new(state));
    }

    /// Exchanges the state of a camera between two jobs; a waiting frame stays. Returns the state before.
    /// None if a job that holds it does not end within `timeout`; its state is discarded when it does.
    pub fn exchange(&self, slot: &Slot, state: T, timeout: Duration) -> Option<Box<T>> {
        // Locked, so that no job begins in between.
        let _locked = self.wait_for_job(slot, slot.lock(), timeout);
        lock(&self.states).insert(slot.number, Box::new(state))
    }

    /// Accepts no more frames from this camera. A waiting frame counts as dropped; one that is with a worker
    /// is finished.
    pub fn close(&self, slot: &Slot) {
        let mut state = slot.lock();
        state.closed = true;
        drop_waiting(&mut state);
        slot.vacated.notify_all();
    }

    fn wait_for_job<'a>(
        &self,
        slot: &Slot,
        state: MutexGuard<'a, SlotState>,
        timeout: Duration,
    ) -> MutexGuard<'a, SlotState> {
        let is_busy = |state: &mut SlotState| state.in_flight;
        slot.vacated.wait_timeout_while(state, timeout, is_busy).unwrap_or_else(PoisonError::into_inner).0
    }
}

fn drop_waiting(state: &mut SlotState) {
    if state.waiting.take().is_some() {
        state.counts.pending -= 1;
        state.counts.dropped += 1;
    }
}

/// A worker's end of the frame queues.
pub struct Jobs<T> {
    states: States<T>,
    ready: Receiver<Arc<Slot>>,
}

impl<T> Jobs<T> {
    /// The next job of the next ready camera. None if no camera became ready within `timeout`.
    pub fn next(&self, timeout: Duration) -> Option<Job<T>> {
        match self.ready.recv_timeout(timeout) {
            Ok(slot) => self.take(slot),
            // The slots hold senders, so the queue disconnects only when all slots are gone.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    fn take(&self, slot: Arc<Slot>) -> Option<Job<T>> {
        let mut state = slot.lock();
        state.queued = false;
        let (interruption, frame) = (state.before.take(), state.waiting.take());
        // An interruption after the frame is the next job.
        state.before = state.after.take();
        if frame.is_none() && interruption.is_none() {
            return None;
        }
        // Taken while the slot is locked, so that `withdraw` and `exchange` cannot come in between.
        let Some(analysis) = lock(&self.states).remove(&slot.number) else {
            if frame.is_some() {
                state.counts.pending -= 1;
                state.counts.dropped += 1;
            }
            return None;
        };
        state.in_flight = true;
        slot.vacated.notify_all();
        drop(state);
        let state = Some(analysis);
        let (states, counts) = (self.states.clone(), frame.is_some());
        Some(Job { interruption, frame, counts, slot, states, state, outcome: Outcome::Failed })
    }
}

impl Slot {
    /// Counts a frame as captured and returns its number, from 1.
    ///
    /// Every counted frame must then be offered, skipped or failed.
    pub fn count(&self) -> u64 {
        let mut state = self.lock();
        state.counts.captured += 1;
        state.counts.pending += 1;
        state.counts.captured
    }

    /// Skips a counted frame to keep to the camera's rate.
    pub fn skip(&self) {
        let mut state = self.lock();
        state.counts.pending -= 1;
        state.counts.skipped_rate += 1;
    }

    /// Counts frames that were not decoded: because the scene is still, because they are not wanted, or
    /// because decoding cannot keep up.
    pub fn count_undecoded(&self, still: u64, unwanted: u64, shed: u64) {
        let mut state = self.lock();
        state.counts.captured += still + unwanted + shed;
        state.counts.skipped_still += still;
        state.counts.skipped_rate += unwanted;
        state.counts.shed += shed;
    }

    /// Counts a counted frame as failed, because it could not be offered.
    pub fn fail(&self) {
        let mut state = self.lock();
        state.counts.pending -= 1;
        state.counts.failed += 1;
    }

    /// Offers a counted frame to the workers. It replaces a frame that is still waiting. Never blocks.
    pub fn offer(self: &Arc<Self>, frame: Frame) {
        let mut state = self.lock();
        if state.closed {
            state.counts.pending -= 1;
            state.counts.dropped += 1;
            return;
        }
        let replaced = state.waiting.replace(frame);
        let after = state.after.take();
        state.before = state.before.or(after);
        if replaced.is_some() {
            state.counts.pending -= 1;
            state.counts.dropped += 1;
        }
        self.enqueue_if_ready(&mut state);
        drop(state);
        // The replaced frame returns its buffer outside the lock.
        drop(replaced);
    }

    /// Reports that no more frames come for now. The next job after the frames so far carries the
    /// interruption.
    pub fn interrupt(self: &Arc<Self>, interruption: Interruption) {
        let mut state = self.lock();
        if !state.closed {
            let position = if state.waiting.is_some() { &mut state.after } else { &mut state.before };
            position.get_or_insert(interruption);
            self.enqueue_if_ready(&mut state);
        }
    }

    /// Blocks until no frame is waiting, for sources that need not run in real time. False if `timeout`
    /// passed first.
    pub fn wait_until_vacant(&self, timeout: Duration) -> bool {
        let is_full = |state: &mut SlotState| state.waiting.is_some() && !state.closed;
        let (_state, waited) = self
            .vacated
            .wait_timeout_while(self.lock(), timeout, is_full)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// The camera's frame counts, consistent with each other.
    pub fn counts(&self) -> FrameCounts {
        self.lock().counts
    }

    /// Enters the ready queue if there is something to do and no worker holds the camera's state.
    fn enqueue_if_ready(self: &Arc<Self>, state: &mut SlotState) {
        let has_work = state.waiting.is_some() || state.before.is_some();
        if state.queued || state.in_flight || !has_work {
            return;
        }
        state.queued = true;
        match self.ready.try_send(self.clone()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => unreachable!("the ready queue is unbounded"),
            // The queues and all workers are gone.
            Err(TrySendError::Disconnected(_)) => state.queued = false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        lock(&self.state)
    }
}

impl<T> Job<T> {
    /// The camera's analysis state.
    pub fn state(&mut self) -> &mut T {
        self.state.as_mut().expect("a job holds the state until it is dropped")
    }

    /// Ends the job.
    pub fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        let mut state = self.slot.lock();
        if let Some(analysis) = self.state.take()
            && !state.closed
        {
            // Another state is there if this job was given up.
            lock(&self.states).entry(self.slot.number).or_insert(analysis);
        }
        if self.counts {
            state.counts.pending -= 1;
            match self.outcome {
                Outcome::Analysed => state.counts.analysed += 1,
                Outcome::Failed => state.counts.failed += 1,
            }
        }
        state.in_flight = false;
        self.slot.vacated.notify_all();
        self.slot.enqueue_if_ready(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{CaptureClock, Image};

    const AT_ONCE: Duration = Duration::ZERO;

    fn offer(slot: &Arc<Slot>) -> u64 {
        let number = slot.count();
        slot.offer(Frame {
            number,
            captured_at: jiff::Timestamp::UNIX_EPOCH,
            capture_clock: CaptureClock::Arrival,
            stream_time: Duration::ZERO,
            timings: Default::default(),
            image: Image::from_rgb(1, 1, vec![0; 3]),
        });
        number
    }

    /// The queues of `count` cameras, and their slots.
    fn queues(count: usize) -> (FrameQueues<()>, Vec<Arc<Slot>>) {
        let mut queues = FrameQueues::new();
        let slots = (0..count).map(|_| queues.add(())).collect();
        (queues, slots)
    }

    fn number(job: &Job<()>) -> u64 {
        job.frame.as_ref().unwrap().number
    }

    #[test]
    fn an_interruption_keeps_its_position_between_frames() {
        let (queues, slots) = queues(1);
        let (slot, jobs) = (slots[0].clone(), queues.jobs());
        let parts = |job: &Job<()>| (job.interruption.is_some(), job.frame.is_some());
        let next = || {
            let job = jobs.next(AT_ONCE).unwrap();
            let parts = parts(&job);
            job.finish(Outcome::Analysed);
            parts
        };
        slot.interrupt(Interruption::Failed);
        assert_eq!(next(), (true, false), "by itself");
        offer(&slot);
        slot.interrupt(Interruption::Failed);
        assert_eq!([next(), next()], [(false, true), (true, false)], "after the frame");
        offer(&slot);
        slot.interrupt(Interruption::Failed);
        offer(&slot);
        assert_eq!(next(), (true, true), "before the newer frame");
        assert!(jobs.next(AT_ONCE).is_none());
        assert!(slot.counts().add_up());
        assert_eq!((slot.counts().analysed, slot.counts().dropped), (2, 1));
    }

    #[test]
    fn a_pending_interruption_is_not_replaced_by_a_later_one() {
        let (queues, slots) = queues(1);
        let (slot, jobs) = (slots[0].clone(), queues.jobs());
        let next = || {
            let job = jobs.next(AT_ONCE).unwrap();
            let parts = (job.interruption, job.frame.is_some());
            job.finish(Outcome::Analysed);
            parts
        };
        slot.interrupt(Interruption::Failed);
        offer(&slot);
        slot.interrupt(Interruption::Ended);
        assert_eq!(next(), (Some(Interruption::Failed), true), "before the frame");
        assert_eq!(next(), (Some(Interruption::Ended), false), "after it");
        slot.interrupt(Interruption::Failed);
        slot.interrupt(Interruption::Ended);
        assert_eq!(next(), (Some(Interruption::Failed), false), "tracks ended with the first");
        assert!(jobs.next(AT_ONCE).is_none() && slot.counts().add_up());
    }

    #[test]
    fn the_newest_frame_wins_and_the_older_one_counts_as_dropped() {
        let (queues, slots) = queues(1);
        let (slot, jobs) = (slots[0].clone(), queues.jobs());
        offer(&slot);
        let newest = offer(&slot);
        let job = jobs.next(AT_ONCE).unwrap();
        assert_eq!(number(&job), newest);
        assert!(jobs.next(AT_ONCE).is_none());
        job.finish(Outcome::Analysed);
        let counts = slot.counts();
        assert_eq!((counts.captured, counts.analysed, counts.dropped), (2, 1, 1));
        assert!(counts.add_up());
    }

    #[test]
    fn a_camera_has_one_frame_in_flight_and_one_waiting() {
        let (queues, slots) = queues(1);
        let (slot, jobs) = (slots[0].clone(), queues.jobs());
        offer(&slot);
        let first = jobs.next(AT_ONCE).unwrap();
        let waiting = offer(&slot);
        assert!(jobs.next(AT_ONCE).is_none(), "its state is with the first job");
        assert_eq!(slot.counts().pending, 2);
        first.finish(Outcome::Analysed);
        assert_eq!(number(&jobs.next(AT_ONCE).unwrap()), waiting);
    }

    #[test]
    fn cameras_are_served_in_turn() {
        let (queues, slots) = queues(3);
        let jobs = queues.jobs();
        let mut served = Vec::new();
        for camera in [0, 1, 2] {
            offer(&slots[camera]);
        }
        for _ in 0..6 {
            let job = jobs.next(AT_ONCE).unwrap();
            // The busiest camera always has the next frame ready.
            offer(&slots[0]);
            served.push(job.slot.number);
            if job.slot.number != 0 {
                offer(&slots[job.slot.number]);
            }
            job.finish(Outcome::Analysed);
        }
        assert_eq!(served, [0, 1, 2, 0, 1, 2]);
        assert!(slots.iter().all(|slot| slot.counts().add_up()));
    }

    #[test]
    fn counts_add_up_whatever_happens() {
        let (queues, slots) = queues(1);
        let (slot, jobs) = (slots[0].clone(), queues.jobs());
        slot.count();
        slot.skip();
        slot.count();
        slot.fail();
        offer(&slot);
        jobs.next(AT_ONCE).unwrap().finish(Outcome::Failed);
        offer(&slot);
        drop(jobs.next(AT_ONCE));
        offer(&slot);
        let in_flight = jobs.next(AT_ONCE).unwrap();
        offer(&slot);
        slot.count_undecoded(5, 3, 2);
        assert!(slot.counts().add_up());
        queues.close(&slot);
        offer(&slot);
        assert!(slot.counts().add_up());
        in_flight.finish(Outcome::Analysed);
        assert_eq!(
            slot.counts(),
            FrameCounts {
                captured: 17,
                analysed: 1,
                skipped_rate: 4,
                skipped_still: 5,
                shed: 2,
                dropped: 2,
                failed: 3,
                pending: 0
            }
        );
    }

    #[test]
    fn counts_add_up_across_threads() {
        let (queues, slots) = queues(2);
        std::thread::scope(|scope| {
            for slot in slots.clone() {
                scope.spawn(move || (0..2000).map(|_| offer(&slot)).max());
            }
            for _ in 0..2 {
                let jobs = queues.jobs();
                scope.spawn(move || {
                    while let Some(job) = jobs.next(Duration::from_millis(200)) {
                        job.finish(Outcome::Analysed);
                    }
                });
            }
        });
        for counts in slots.iter().map(|slot| slot.counts()) {
            assert!(counts.add_up());
            assert_eq!((counts.captured, counts.pending), (2000, 0));
        }
    }

    #[test]
    fn a_source_can_wait_until_the_slot_is_vacant() {
        let (queues, slots) = queues(1);
        let slot = slots[0].clone();
        assert!(slot.wait_until_vacant(AT_ONCE));
        offer(&slot);
        assert!(!slot.wait_until_vacant(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            scope.spawn(|| queues.jobs().next(AT_ONCE).unwrap().finish(Outcome::Analysed));
            assert!(slot.wait_until_vacant(Duration::from_secs(10)));
        });
    }

    #[test]
    fn a_camera_that_is_opened_anew_gets_a_fresh_state_and_keeps_its_counts() {
        let mut queues = FrameQueues::new();
        let (slot, jobs) = (queues.add("old"), queues.jobs());
        offer(&slot);
        slot.interrupt(Interruption::Failed);
        assert_eq!(queues.withdraw(&slot, AT_ONCE).as_deref(), Some(&"old"));
        assert!(jobs.next(AT_ONCE).is_none(), "neither its frame nor its interruption is left");
        queues.restore(&slot, "new");
        assert_eq!(offer(&slot), 2);
        let mut job = jobs.next(AT_ONCE).unwrap();
        assert_eq!((*job.state(), job.interruption), ("new", None));
        job.finish(Outcome::Analysed);
        let counts = slot.counts();
        assert_eq!((counts.captured, counts.analysed, counts.dropped), (2, 1, 1));
        assert!(counts.add_up());
    }

    #[test]
    fn a_state_is_exchanged_between_two_jobs_and_loses_no_frame() {
        let mut queues = FrameQueues::new();
        let (slot, jobs) = (queues.add("old"), queues.jobs());
        offer(&slot);
        let job = jobs.next(AT_ONCE).unwrap();
        offer(&slot);
        std::thread::scope(|scope| {
            let exchanged = scope.spawn(|| queues.exchange(&slot, "new", Duration::from_secs(10)));
            job.finish(Outcome::Analysed);
            assert_eq!(exchanged.join().unwrap().as_deref(), Some(&"old"));
        });
        assert_eq!(*jobs.next(AT_ONCE).unwrap().state(), "new");
        assert_eq!(slot.counts().dropped, 0);
    }

    #[test]
    fn a_job_that_was_given_up_does_not_bring_its_state_back() {
        let mut queues = FrameQueues::new();
        let (slot, jobs) = (queues.add("old"), queues.jobs());
        offer(&slot);
        let hung = jobs.next(AT_ONCE).unwrap();
        assert!(queues.exchange(&slot, "new", AT_ONCE).is_none());
        hung.finish(Outcome::Analysed);
        offer(&slot);
        assert_eq!(*jobs.next(AT_ONCE).unwrap().state(), "new");
    }
}
