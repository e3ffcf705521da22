//! The accounts of the whole node, gathered for a message: from the frame way, the stages' records, the queue and the
//! kernel.

use crate::{
    clock::Clock,
    publish::messages::{CameraStats, Message, SCHEMA, Stats},
    queue::{FrameWay, MessageSender},
    record::CameraRecord,
    vision::scene::Scene,
};
use std::sync::{Arc, atomic::Ordering};

/// Gathers the accounts of this moment.
pub fn gather(
    node: &Arc<str>,
    cameras: &[(Arc<str>, Arc<CameraRecord>)],
    way: &FrameWay<Scene>,
    messages: &MessageSender<Message>,
    clock: &dyn Clock,
) -> Stats {
    let stats_of = |((name, record), accounts): (&(Arc<str>, Arc<CameraRecord>), _)| {
        let latency_ms = record.take_latencies();
        let stats = CameraStats {
            accounts,
            resting: record.resting.load(Ordering::Relaxed),
            restarts: record.restarts.load(Ordering::Relaxed),
            hung_teardowns: record.hung_teardowns.load(Ordering::Relaxed),
            latency_ms,
        };
        (name.to_string(), stats)
    };
    Stats {
        schema: SCHEMA,
        node: node.clone(),
        number: None,
        at: clock.now(),
        uptime_s: clock.monotonic().as_secs(),
        memory_mib: resident_mib().unwrap_or_default(),
        messages_dropped: messages.dropped(),
        clock_synchronised: clock.is_synchronised(),
        cameras: cameras.iter().zip(way.accounts()).map(stats_of).collect(),
    }
}

/// Resident memory of this process, as the kernel counts it.
fn resident_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_how_much_memory_is_resident() {
        assert!(resident_mib().is_some_and(|mib| mib > 0));
    }
}
