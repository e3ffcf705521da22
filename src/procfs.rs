//! Memory and CPU time of this process, and disk writes of a thread, read from `/proc`; the machine's
//! temperature from `/sys`.

use std::fs;

/// Unit of times in `/proc`: `USER_HZ`, which is 100 on every architecture that camfire supports (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory, or None if it cannot be read.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// CPU time of all threads in user and kernel mode, in seconds, or None if it cannot be read.
pub fn cpu_s() -> Option<f64> {
    ticks(&fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks as f64 / TICKS_PER_SECOND)
}

/// The highest temperature that the kernel's thermal zones report, in degrees Celsius. None without a sensor.
pub fn temperature_c() -> Option<f64> {
    let zones = fs::read_dir("/sys/class/thermal").ok()?.filter_map(Result::ok);
    let zones = zones.filter(|entry| entry.file_name().to_string_lossy().starts_with("thermal_zone"));
    let celsius = |entry: fs::DirEntry| {
        let millidegrees: f64 = fs::read_to_string(entry.path().join("temp")).ok()?.trim().parse().ok()?;
        Some(millidegrees / 1e3)
    };
    zones.filter_map(celsius).max_by(f64::total_cmp)
}

/// Bytes that the calling thread has caused to be written to disk, in whole pages, or None if they cannot be
/// read.
pub fn thread_written_bytes() -> Option<u64> {
    let counts = fs::read_to_string("/proc/thread-self/io").ok()?;
    counts.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}

/// The sum of `utime` and `stime`, fields 14 and 15 of `stat`. The second field is a name in parentheses that
/// may contain any character.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_cpu_time_are_read() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(cpu_s().is_some_and(|seconds| seconds >= 0.0));
        let stat = "12 (a) b) S 1 12 12 0 -1 4194304 100 0 0 0 250 75 0 0 20 0 5 0";
        assert_eq!(ticks(stat), Some(325));
    }
}
