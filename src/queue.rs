//! The two queues between the stages, each with one overflow policy; every drop is counted.
//!
//! **Frames** ([`FrameWay`], [`Slot`]): newest wins. A camera has at most one frame in a worker's hands and one waiting;
//! a newer frame replaces the waiting one. Ready cameras stand in one line and are served in turn, so a busy camera
//! cannot starve a quiet one. What belongs to a camera (`T`: its memory from frame to frame) travels with its frame:
//! only one worker has it, and no lock is held while it is used. Offering a frame never blocks.
//!
//! **Messages** ([`messages`]): those that must arrive wait, and go to disk; of all others the oldest are dropped.
//! Publishing that lags behind loses their past, and never holds up seeing.
//!
//! Invariant of a slot, at every moment:
//! `captured = analysed + skipped_rate + skipped_still + shed + dropped + failed + pending`.

use crate::frame::Frame;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What became of a camera's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Accounts {
    /// Frames that the camera sent, decoded or not.
    pub captured: u64,
    /// Frames that went through the network.
    pub analysed: u64,
    /// Frames left out on purpose, to keep to the camera's rate, or because only keyframes are wanted.
    pub skipped_rate: u64,
    /// Frames that were not decoded because the scene was still.
    pub skipped_still: u64,
    /// Frames that were not decoded because decoding could not keep pace.
    pub shed: u64,
    /// Frames that a newer one replaced before a worker was free, or that were waiting when camfire stopped.
    pub dropped: u64,
    /// Frames that could not be analysed.
    pub failed: u64,
    /// Frames waiting or in a worker's hands: 0 to 2.
    pub pending: u64,
}

impl Accounts {
    /// Whether every captured frame is accounted for.
    #[cfg(test)]
    pub fn balance(&self) -> bool {
        let left_out = self.skipped_rate + self.skipped_still + self.shed;
        self.captured == self.analysed + left_out + self.dropped + self.failed + self.pending
    }
}

/// One camera's place on the frame way.
pub struct Slot<T> {
    camera: usize,
    state: Mutex<SlotState<T>>,
    /// Told when a frame has left the slot, for sources that wait.
    left: Condvar,
    ready: Sender<Arc<Slot<T>>>,
}

struct SlotState<T> {
    waiting: Option<Frame>,
    /// Before the waiting frame there were no frames for a time. Of several interruptions in a row the first one counts.
    before: Option<Interruption>,
    /// There will be no more frames for now; only where one is waiting.
    after: Option<Interruption>,
    /// In the slot unless a worker has it.
    luggage: Option<Box<T>>,
    /// Standing in the line of ready cameras.
    queued: bool,
    closed: bool,
    accounts: Accounts,
}

/// Why a camera sends no frames for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// It failed.
    Failed,
    /// It was a recording, which is over.
    Over,
}

/// A frame handed to a worker, with what belongs to its camera; or word of an interruption before it. Ends with
/// [`Job::done`]; dropped without it, as in a panic, the frame counts as failed.
pub struct Job<T> {
    /// What happened before the frame.
    pub interruption: Option<Interruption>,
    /// The frame; none if it is only about an interruption.
    pub frame: Option<Frame>,
    /// It has a frame to account for.
    counts: bool,
    slot: Arc<Slot<T>>,
    luggage: Option<Box<T>>,
    outcome: Outcome,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went through the network.
    Analysed,
    /// It could not be analysed.
    Failed,
}

/// All cameras' slots and the line of those that are ready.
pub struct FrameWay<T> {
    slots: Vec<Arc<Slot<T>>>,
    ready: Receiver<Arc<Slot<T>>>,
}

impl<T> FrameWay<T> {
    /// A way for as many cameras as there is luggage.
    pub fn new(luggage: Vec<T>) -> FrameWay<T> {
        // Each slot stands in the line at most once, so the line is never full.
        let (sender, ready) = crossbeam_channel::bounded(luggage.len().max(1));
        let slot = |(camera, luggage)| {
            Arc::new(Slot {
                camera,
                state: Mutex::new(SlotState {
                    waiting: None,
                    before: None,
                    after: None,
                    luggage: Some(Box::new(luggage)),
                    queued: false,
                    closed: false,
                    accounts: Accounts::default(),
                }),
                left: Condvar::new(),
                ready: sender.clone(),
            })
        };
        FrameWay { slots: luggage.into_iter().enumerate().map(slot).collect(), ready }
    }

    /// The slot of camera `index`.
    pub fn slot(&self, index: usize) -> Arc<Slot<T>> {
        self.slots[index].clone()
    }

    /// Where workers get their jobs.
    pub fn jobs(&self) -> Jobs<T> {
        Jobs { ready: self.ready.clone() }
    }

    /// Every camera's accounts, each taken in one moment.
    pub fn accounts(&self) -> Vec<Accounts> {
        self.slots.iter().map(|slot| slot.lock().accounts).collect()
    }

    /// What belongs to each camera, once no worker has it any more.
    pub fn take_luggage(&self) -> Vec<Option<Box<T>>> {
        self.slots.iter().map(|slot| slot.lock().luggage.take()).collect()
    }

    /// Takes no more frames; those waiting count as dropped, those in a worker's hands are finished.
    pub fn close(&self) {
        for slot in &self.slots {
            let mut state = slot.lock();
            state.closed = true;
            if state.waiting.take().is_some() {
                state.accounts.pending -= 1;
                state.accounts.dropped += 1;
            }
            slot.left.notify_all();
        }
    }
}

/// A worker's end of the frame way.
pub struct Jobs<T> {
    ready: Receiver<Arc<Slot<T>>>,
}

impl<T> Jobs<T> {
    /// The next ready camera's frame; `None` if there was none for `timeout`.
    pub fn next(&self, timeout: Duration) -> Option<Job<T>> {
        match self.ready.recv_timeout(timeout) {
            Ok(slot) => Slot::take(slot),
            // The slots hold the senders, so the line only ends with the way itself.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}

impl<T> Slot<T> {
    /// Counts a frame as captured and gives its number, counted from 1.
    ///
    /// Every counted frame must then be offered or skipped.
    pub fn count(&self) -> u64 {
        let mut state = self.lock();
        state.accounts.captured += 1;
        state.accounts.pending += 1;
        state.accounts.captured
    }

    /// Leaves a counted frame out on purpose, to keep to the camera's rate.
    pub fn skip(&self) {
        let mut state = self.lock();
        state.accounts.pending -= 1;
        state.accounts.skipped_rate += 1;
    }

    /// Counts frames that were not even decoded: because the scene is still, because they are not wanted, because
    /// decoding cannot keep pace.
    pub fn leave_out(&self, still: u64, unwanted: u64, shed: u64) {
        let mut state = self.lock();
        state.accounts.captured += still + unwanted + shed;
        state.accounts.skipped_still += still;
        state.accounts.skipped_rate += unwanted;
        state.accounts.shed += shed;
    }

    /// A counted frame that could not even be offered.
    pub fn fail(&self) {
        let mut state = self.lock();
        state.accounts.pending -= 1;
        state.accounts.failed += 1;
    }

    /// Gives a counted frame to the workers, in place of one that is still waiting. Never blocks.
    pub fn offer(self: &Arc<Self>, frame: Frame) {
        let mut state = self.lock();
        if state.closed {
            state.accounts.pending -= 1;
            state.accounts.dropped += 1;
            return;
        }
        let replaced = state.waiting.replace(frame);
        let after = state.after.take();
        state.before = state.before.or(after);
        if replaced.is_some() {
            state.accounts.pending -= 1;
            state.accounts.dropped += 1;
        }
        self.stand_in_line(&mut state);
        drop(state);
        // The replaced frame gives its buffer back outside the lock.
        drop(replaced);
    }

    /// There will be no more frames for now: whoever has the luggage next is told, after the frames so far.
    pub fn interrupt(self: &Arc<Self>, interruption: Interruption) {
        let mut state = self.lock();
        if !state.closed {
            let place = if state.waiting.is_some() { &mut state.after } else { &mut state.before };
            place.get_or_insert(interruption);
            self.stand_in_line(&mut state);
        }
    }

    /// Waits until no frame is waiting, for sources that need not hurry; false if that took longer than `timeout`.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let full = |state: &mut SlotState<T>| state.waiting.is_some() && !state.closed;
        let (_state, waited) =
            self.left.wait_timeout_while(self.lock(), timeout, full).unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// What has become of the camera's frames so far.
    pub fn accounts(&self) -> Accounts {
        self.lock().accounts
    }

    /// Joins the line if there is a frame to take and nobody has the luggage.
    fn stand_in_line(self: &Arc<Self>, state: &mut SlotState<T>) {
        let has_work = state.waiting.is_some() || state.before.is_some();
        if state.queued || state.luggage.is_none() || !has_work {
            return;
        }
        state.queued = true;
        match self.ready.try_send(self.clone()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => unreachable!("a slot stands in the line at most once"),
            // The way is gone and with it all workers.
            Err(TrySendError::Disconnected(_)) => state.queued = false,
        }
    }

    fn take(slot: Arc<Self>) -> Option<Job<T>> {
        let mut state = slot.lock();
        state.queued = false;
        let (interruption, frame) = (state.before.take(), state.waiting.take());
        // What came after the frame is the next job.
        state.before = state.after.take();
        if frame.is_none() && interruption.is_none() {
            return None;
        }
        let luggage = state.luggage.take();
        slot.left.notify_all();
        drop(state);
        let counts = frame.is_some();
        Some(Job { interruption, frame, counts, slot, luggage, outcome: Outcome::Failed })
    }

    fn lock(&self) -> MutexGuard<'_, SlotState<T>> {
        // A panic elsewhere leaves counters that are still sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Job<T> {
    /// Which camera, as counted by [`FrameWay::new`].
    pub fn camera(&self) -> usize {
        self.slot.camera
    }

    /// What belongs to the camera.
    pub fn luggage(&mut self) -> &mut T {
        self.luggage.as_mut().expect("a job has it until it is dropped")
    }

    /// Ends the job.
    pub fn done(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        let mut state = self.slot.lock();
        if self.counts {
            state.accounts.pending -= 1;
            match self.outcome {
                Outcome::Analysed => state.accounts.analysed += 1,
                Outcome::Failed => state.accounts.failed += 1,
            }
        }
        state.luggage = self.luggage.take();
        self.slot.stand_in_line(&mut state);
    }
}

/// Two queues of messages: those that are `lasting` wait for as long as it takes, of the others at most `capacity`, and
/// the oldest go.
pub fn messages<M>(
    capacity: usize,
    is_lasting: impl Fn(&M) -> bool + Send + Sync + 'static,
) -> (MessageSender<M>, Messages<M>) {
    let ((lasting, to_last), (passing, to_pass)) =
        (crossbeam_channel::unbounded(), crossbeam_channel::bounded(capacity));
    let receiver = to_pass.clone();
    let sender = MessageSender {
        is_lasting: Arc::new(is_lasting),
        lasting,
        passing,
        receiver,
        dropped: Arc::default(),
    };
    (sender, Messages { lasting: to_last, passing: to_pass })
}

/// The reading end of [`messages`].
pub struct Messages<M> {
    /// None of these is ever dropped: whoever reads them keeps up, or the watchdog ends it all.
    pub lasting: Receiver<M>,
    /// The newest of these.
    pub passing: Receiver<M>,
}

impl<M> Clone for Messages<M> {
    fn clone(&self) -> Self {
        Messages { lasting: self.lasting.clone(), passing: self.passing.clone() }
    }
}

/// The writing end of [`messages`].
pub struct MessageSender<M> {
    is_lasting: Arc<dyn Fn(&M) -> bool + Send + Sync>,
    lasting: Sender<M>,
    passing: Sender<M>,
    /// To take out the oldest; the publisher has the other end.
    receiver: Receiver<M>,
    dropped: Arc<AtomicU64>,
}

impl<M> Clone for MessageSender<M> {
    fn clone(&self) -> Self {
        MessageSender {
            is_lasting: self.is_lasting.clone(),
            lasting: self.lasting.clone(),
            passing: self.passing.clone(),
            receiver: self.receiver.clone(),
            dropped: self.dropped.clone(),
        }
    }
}

impl<M> MessageSender<M> {
    /// Puts a message in, where it does not last at the cost of the oldest. Never blocks.
    pub fn send(&self, message: M) {
        if (self.is_lasting)(&message) {
            // Fails only where nobody reads any more.
            let _ = self.lasting.send(message);
            return;
        }
        let mut message = message;
        // Ends: each turn either finds room or makes it.
        while let Err(TrySendError::Full(again)) = self.passing.try_send(message) {
            if self.receiver.try_recv().is_ok() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            message = again;
        }
    }

    /// Counts the messages that had to go. Who has it does not keep the queue open.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{CaptureClock, Image};

    const AT_ONCE: Duration = Duration::ZERO;

    fn offer(slot: &Arc<Slot<()>>) -> u64 {
        let number = slot.count();
        slot.offer(Frame {
            number,
            captured_at: jiff::Timestamp::UNIX_EPOCH,
            capture_clock: CaptureClock::Arrival,
            moment: Duration::ZERO,
            ledger: Default::default(),
            image: Image::from_rgb(1, 1, vec![0; 3]),
        });
        number
    }

    fn number(job: &Job<()>) -> u64 {
        job.frame.as_ref().unwrap().number
    }

    #[test]
    fn an_interruption_comes_between_the_frames_it_came_between() {
        let way = FrameWay::new(vec![()]);
        let (slot, jobs) = (way.slot(0), way.jobs());
        let told = |job: &Job<()>| (job.interruption.is_some(), job.frame.is_some());
        let next = || {
            let job = jobs.next(AT_ONCE).unwrap();
            let told = told(&job);
            job.done(Outcome::Analysed);
            told
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
        assert!(slot.accounts().balance());
        assert_eq!((slot.accounts().analysed, slot.accounts().dropped), (2, 1));
    }

    #[test]
    fn an_interruption_not_taken_yet_is_not_lost_to_a_later_one() {
        let way = FrameWay::new(vec![()]);
        let (slot, jobs) = (way.slot(0), way.jobs());
        let next = || {
            let job = jobs.next(AT_ONCE).unwrap();
            let told = (job.interruption, job.frame.is_some());
            job.done(Outcome::Analysed);
            told
        };
        slot.interrupt(Interruption::Failed);
        offer(&slot);
        slot.interrupt(Interruption::Over);
        assert_eq!(next(), (Some(Interruption::Failed), true), "before the frame");
        assert_eq!(next(), (Some(Interruption::Over), false), "after it");
        slot.interrupt(Interruption::Failed);
        slot.interrupt(Interruption::Over);
        assert_eq!(next(), (Some(Interruption::Failed), false), "what was tracked ended with the first");
        assert!(jobs.next(AT_ONCE).is_none() && slot.accounts().balance());
    }

    #[test]
    fn the_newest_frame_wins_and_the_older_counts_as_dropped() {
        let way = FrameWay::new(vec![()]);
        let (slot, jobs) = (way.slot(0), way.jobs());
        offer(&slot);
        let newest = offer(&slot);
        let job = jobs.next(AT_ONCE).unwrap();
        assert_eq!(number(&job), newest);
        assert!(jobs.next(AT_ONCE).is_none());
        job.done(Outcome::Analysed);
        let accounts = slot.accounts();
        assert_eq!((accounts.captured, accounts.analysed, accounts.dropped), (2, 1, 1));
        assert!(accounts.balance());
    }

    #[test]
    fn a_camera_has_one_frame_in_flight_and_one_waiting() {
        let way = FrameWay::new(vec![()]);
        let (slot, jobs) = (way.slot(0), way.jobs());
        offer(&slot);
        let first = jobs.next(AT_ONCE).unwrap();
        let waiting = offer(&slot);
        assert!(jobs.next(AT_ONCE).is_none(), "its luggage is with the first");
        assert_eq!(slot.accounts().pending, 2);
        first.done(Outcome::Analysed);
        assert_eq!(number(&jobs.next(AT_ONCE).unwrap()), waiting);
    }

    #[test]
    fn cameras_are_served_in_turn() {
        let way = FrameWay::new(vec![(), (), ()]);
        let jobs = way.jobs();
        let mut served = Vec::new();
        for camera in [0, 1, 2] {
            offer(&way.slot(camera));
        }
        for _ in 0..6 {
            let job = jobs.next(AT_ONCE).unwrap();
            // The busiest camera always has the next frame ready.
            offer(&way.slot(0));
            served.push(job.camera());
            if job.camera() != 0 {
                offer(&way.slot(job.camera()));
            }
            job.done(Outcome::Analysed);
        }
        assert_eq!(served, [0, 1, 2, 0, 1, 2]);
        assert!(way.accounts().iter().all(Accounts::balance));
    }

    #[test]
    fn accounts_balance_whatever_happens() {
        let way = FrameWay::new(vec![()]);
        let (slot, jobs) = (way.slot(0), way.jobs());
        slot.count();
        slot.skip();
        slot.count();
        slot.fail();
        offer(&slot);
        jobs.next(AT_ONCE).unwrap().done(Outcome::Failed);
        offer(&slot);
        drop(jobs.next(AT_ONCE));
        offer(&slot);
        let in_flight = jobs.next(AT_ONCE).unwrap();
        offer(&slot);
        slot.leave_out(5, 3, 2);
        assert!(slot.accounts().balance());
        way.close();
        offer(&slot);
        assert!(slot.accounts().balance());
        in_flight.done(Outcome::Analysed);
        assert_eq!(
            slot.accounts(),
            Accounts {
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
    fn accounts_balance_between_threads() {
        let way = FrameWay::new(vec![(), ()]);
        std::thread::scope(|scope| {
            for camera in 0..2 {
                let slot = way.slot(camera);
                scope.spawn(move || (0..2000).map(|_| offer(&slot)).max());
            }
            for _ in 0..2 {
                let jobs = way.jobs();
                scope.spawn(move || {
                    while let Some(job) = jobs.next(Duration::from_millis(200)) {
                        job.done(Outcome::Analysed);
                    }
                });
            }
        });
        for accounts in way.accounts() {
            assert!(accounts.balance());
            assert_eq!((accounts.captured, accounts.pending), (2000, 0));
        }
    }

    #[test]
    fn a_patient_source_waits_for_room() {
        let way = FrameWay::new(vec![()]);
        let slot = way.slot(0);
        assert!(slot.wait_for_room(AT_ONCE));
        offer(&slot);
        assert!(!slot.wait_for_room(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            scope.spawn(|| way.jobs().next(AT_ONCE).unwrap().done(Outcome::Analysed));
            assert!(slot.wait_for_room(Duration::from_secs(10)));
        });
    }

    #[test]
    fn what_lasts_waits_and_of_the_rest_the_oldest_go_and_are_counted() {
        let (sender, receiver) = messages(2, |message| message % 10 == 0);
        for message in [1, 2, 10, 3, 4, 20, 5, 30] {
            sender.send(message);
        }
        assert_eq!(receiver.passing.try_iter().collect::<Vec<_>>(), [4, 5]);
        assert_eq!(receiver.lasting.try_iter().collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(sender.dropped().load(Ordering::Relaxed), 3);
    }
}
