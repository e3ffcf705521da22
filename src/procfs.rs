//! What the kernel counts of this process, read from `/proc/self`.

use std::fs;

/// The unit of times in `/proc`: `USER_HZ`, which is 100 on every architecture that camfire is built for (proc(5)).
const TICKS_A_SECOND: f64 = 100.0;

/// Memory that is resident.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// CPU time of all threads, in the program and in the kernel for it, in seconds.
pub fn cpu_s() -> Option<f64> {
    ticks(&fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks as f64 / TICKS_A_SECOND)
}

/// `utime` and `stime`, fields 14 and 15 of `stat`. The second field is a name in brackets that may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_memory_and_cpu_time() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(cpu_s().is_some_and(|seconds| seconds >= 0.0));
        let stat = "12 (a) b) S 1 12 12 0 -1 4194304 100 0 0 0 250 75 0 0 20 0 5 0";
        assert_eq!(ticks(stat), Some(325));
    }
}
