//! The accounts of the whole node, gathered for a message: from the frame way, the queue and the kernel.

use crate::{
    clock::Clock,
    publish::messages::{Message, SCHEMA, Stats},
    queue::{FrameWay, MessageSender},
};
use std::sync::Arc;

/// Gathers the accounts of this moment.
pub fn gather(
    node: &Arc<str>,
    cameras: &[Arc<str>],
    way: &FrameWay<()>,
    messages: &MessageSender<Message>,
    clock: &dyn Clock,
) -> Stats {
    let accounts = way.accounts();
    Stats {
        schema: SCHEMA,
        node: node.clone(),
        at: clock.now(),
        uptime_s: clock.monotonic().as_secs(),
        memory_mib: resident_mib().unwrap_or_default(),
        messages_dropped: messages.dropped(),
        cameras: cameras.iter().map(|name| name.to_string()).zip(accounts).collect(),
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
    #[test]
    fn the_kernel_tells_how_much_memory_is_resident() {
        assert!(super::resident_mib().is_some_and(|mib| mib > 0));
    }
}
