//! The machine: camfire's version and the system's, CPU, memory, temperature, throttling, the clock.

use super::{board::Board, finding::Finding};
use crate::{
    cli::{
        bounded,
        machine_files::{names, printable, read},
    },
    clock::query_synchronised,
};
use std::{path::Path, process::Command, time::Duration};

/// What one camera and the networks take (docs/soak.md), and some room for the system.
const MIN_AVAILABLE_MIB: u64 = 192;
/// From here on most boards slow down, if they do not tell their limit.
const HOT_C: f64 = 80.0;
/// Time for a program or a service of the system to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Reports on the machine, whose files are below `root`.
pub fn findings(root: &Path, board: &Board) -> Vec<Finding> {
    let mut findings = vec![version(root, board), cpu(root)];
    findings.extend(memory(root));
    findings.extend(temperature(root));
    findings.extend(throttling(root, board));
    findings.push(clock());
    findings
}

fn version(root: &Path, board: &Board) -> Finding {
    let release = read(root, "etc/os-release").unwrap_or_default();
    let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    let kernel = read(root, "proc/sys/kernel/osrelease").map(|release| format!("Linux {release}"));
    let parts = [
        Some(env!("CARGO_PKG_VERSION").to_string()),
        Some(printable(system.trim_matches('"'))).filter(|system| !system.is_empty()),
        kernel,
        board.model.clone(),
    ];
    Finding::good("camfire", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("board", board.model.clone())
}

/// Architecture, cores, and the CPU features that int8 kernels exist for.
fn cpu(root: &Path) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = read(root, "proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split_once(':')).map(|(_, name)| printable(name.trim()));
    let features = features().join(" ");
    let parts = [
        Some(std::env::consts::ARCH.to_string()),
        name,
        Some(if cores == 1 { "1 core".into() } else { format!("{cores} cores") }),
        Some(if features.is_empty() { "no features that int8 kernels use".into() } else { features }),
    ];
    Finding::good("cpu", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let mut features = Vec::new();
    for (has, name) in [
        (std::arch::is_x86_feature_detected!("avx2"), "avx2"),
        (std::arch::is_x86_feature_detected!("avxvnni"), "avxvnni"),
        (std::arch::is_x86_feature_detected!("avx512vnni"), "avx512vnni"),
    ] {
        if has {
            features.push(name);
        }
    }
    features
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let mut features = vec!["neon"];
    for (has, name) in [
        (std::arch::is_aarch64_feature_detected!("dotprod"), "dotprod"),
        (std::arch::is_aarch64_feature_detected!("i8mm"), "i8mm"),
    ] {
        if has {
            features.push(name);
        }
    }
    features
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

fn memory(root: &Path) -> Vec<Finding> {
    let info = read(root, "proc/meminfo").unwrap_or_default();
    let mib = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
    };
    let (Some(total), Some(available)) = (mib("MemTotal"), mib("MemAvailable")) else {
        return vec![Finding::absent("memory", "unknown")];
    };
    let text = format!("{total} MiB, of which {available} MiB are available");
    let mut findings =
        vec![Finding::good("memory", text).with("total_mib", total).with("available_mib", available)];
    if available < MIN_AVAILABLE_MIB {
        let text = format!(
            "{available} MiB are available: camfire takes 110 MiB with one camera and up to 30 MiB for each \
             further one, and without memory the system stops programs"
        );
        findings.push(Finding::advice("memory", text));
    }
    findings
}

/// The hottest sensor, and whether it is near the point at which the board slows down.
fn temperature(root: &Path) -> Vec<Finding> {
    const ZONES: &str = "sys/class/thermal";
    let celsius = |file: String| {
        let thousandths: f64 = read(root, &file)?.parse().ok()?;
        // Sensors that are switched off report nonsense.
        Some(thousandths / 1000.0).filter(|celsius| (-40.0..=150.0).contains(celsius))
    };
    let zone = |zone: String| {
        let temperature = celsius(format!("{ZONES}/{zone}/temp"))?;
        let name = read(root, &format!("{ZONES}/{zone}/type")).unwrap_or_else(|| zone.clone());
        let trips = (0..12).filter_map(|trip| {
            let kind = read(root, &format!("{ZONES}/{zone}/trip_point_{trip}_type"))?;
            let limit = celsius(format!("{ZONES}/{zone}/trip_point_{trip}_temp"))?;
            (kind == "passive" && limit > 0.0).then_some(limit)
        });
        let limit = trips.min_by(f64::total_cmp).unwrap_or(HOT_C);
        Some((temperature, limit, printable(&name)))
    };
    let zones = names(root, ZONES).into_iter().filter(|name| name.starts_with("thermal_zone"));
    let hottest = zones.filter_map(zone).max_by(|a, b| (a.0 - a.1).total_cmp(&(b.0 - b.1)));
    let Some((temperature, limit, name)) = hottest else {
        return vec![Finding::absent("temperature", "no sensor")];
    };
    let text = format!("{temperature:.1} °C ({name})");
    let mut findings = vec![Finding::good("temperature", text).with("celsius", temperature)];
    if temperature >= limit {
        let text =
            format!("{temperature:.1} °C ({name}): above {limit:.0} °C it is slowed down; cool the board");
        findings.push(Finding::advice("temperature", text));
    }
    findings
}

/// The bits of a Raspberry Pi's firmware, and what to do.
const THROTTLED: [(u32, &str, &str); 4] = [
    (0, "under-voltage", "use a power supply that is made for this board"),
    (1, "the CPU's frequency is capped", "cool the board, and check its power supply"),
    (2, "throttled", "cool the board, and check its power supply"),
    (3, "the soft temperature limit is reached", "cool the board"),
];
/// The same events since the board was started stand this many bits higher.
const SINCE_START: u32 = 16;

/// Whether the board runs slower than it could.
fn throttling(root: &Path, board: &Board) -> Vec<Finding> {
    let mut findings = cooled_devices(root);
    if !board.is_raspberry_pi() {
        if findings.is_empty() {
            findings.push(Finding::extra("throttling", "none is reported"));
        }
        return findings;
    }
    let Some(bits) = firmware_bits(root) else {
        findings.push(Finding::absent("throttling", "the firmware does not tell"));
        return findings;
    };
    for (bit, event, remedy) in THROTTLED {
        let when = match (bits >> bit & 1, bits >> (bit + SINCE_START) & 1) {
            (1, _) => "now",
            (0, 1) => "since the board was started",
            _ => continue,
        };
        findings.push(Finding::advice("throttling", format!("{event} {when}: {remedy}")));
    }
    if findings.is_empty() {
        findings.push(Finding::good("throttling", "none since the board was started"));
    }
    findings
}

/// Advice for each cooling device that slows a processor down now. These are what other boards than a
/// Raspberry Pi have.
fn cooled_devices(root: &Path) -> Vec<Finding> {
    const DEVICES: &str = "sys/class/thermal";
    let is_slowed = |device: &String| {
        let kind = read(root, &format!("{DEVICES}/{device}/type"))?;
        let is_processor =
            ["cpufreq", "devfreq", "Processor", "throttle-alert"].iter().any(|k| kind.contains(k));
        let state: u64 = read(root, &format!("{DEVICES}/{device}/cur_state"))?.parse().ok()?;
        (is_processor && state > 0).then(|| printable(&kind))
    };
    let devices = names(root, DEVICES).into_iter().filter(|name| name.starts_with("cooling_device"));
    let mut kinds: Vec<String> = devices.filter_map(|device| is_slowed(&device)).collect();
    kinds.sort();
    kinds.dedup();
    let advice = |kind: String| {
        Finding::advice(
            "throttling",
            format!("{kind} is slowed down now: cool the board, or raise its power mode"),
        )
    };
    kinds.into_iter().map(advice).collect()
}

/// The events that a Raspberry Pi's firmware has noted: from the kernel, or else from `vcgencmd`.
fn firmware_bits(root: &Path) -> Option<u32> {
    const PLATFORM: &str = "sys/devices/platform";
    let number = |text: &str| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok();
    let is_firmware = |name: &String| name.ends_with("firmware");
    let below = |directory: &str| {
        names(root, directory).into_iter().map(|name| format!("{directory}/{name}")).collect::<Vec<_>>()
    };
    let mut directories = below(PLATFORM);
    directories
        .extend(directories.clone().iter().filter(|path| path.contains("soc")).flat_map(|path| below(path)));
    let files = directories.into_iter().filter(is_firmware).map(|path| format!("{path}/get_throttled"));
    let from_kernel = files.filter_map(|file| read(root, &file)).find_map(|text| number(&text));
    from_kernel.or_else(|| {
        let program = root.join("usr/bin/vcgencmd");
        let output = bounded::within(TIMEOUT, move || Command::new(program).arg("get_throttled").output());
        let text = String::from_utf8_lossy(&output?.ok()?.stdout).into_owned();
        number(text.trim().strip_prefix("throttled=")?)
    })
}

/// Whether the clock is synchronised, as the times in messages require.
fn clock() -> Finding {
    match bounded::within(TIMEOUT, query_synchronised).flatten() {
        Some(true) => Finding::good("clock", "synchronised to a time server"),
        Some(false) => Finding::fault("clock", "not synchronised to a time server: captured_at may be wrong"),
        None => Finding::absent("clock", "unknown whether it is synchronised to a time server"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::board::Family, *};
    use crate::cli::machine_files::tests::machine as root;

    fn board(family: Family) -> Board {
        Board { model: None, family }
    }

    fn lines(findings: &[Finding]) -> Vec<String> {
        let line = |finding: &Finding| {
            let kind = if finding.advice {
                "!"
            } else if finding.needed {
                ""
            } else {
                "-"
            };
            format!("{kind}{}: {}", finding.what, finding.text)
        };
        findings.iter().map(line).collect()
    }

    #[test]
    fn a_throttled_raspberry_pi_tells_why() {
        // As on a Pi 5 and on earlier ones.
        for file in [
            "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
            "sys/devices/platform/soc/soc:firmware/get_throttled",
        ] {
            let pi = root(&[(file, "50005\n")]);
            assert_eq!(
                lines(&throttling(pi.path(), &board(Family::RaspberryPi5))),
                [
                    "!throttling: under-voltage now: use a power supply that is made for this board",
                    "!throttling: throttled now: cool the board, and check its power supply"
                ]
            );
        }
        let earlier = root(&[("sys/devices/platform/soc/soc:firmware/get_throttled", "80000")]);
        assert_eq!(
            lines(&throttling(earlier.path(), &board(Family::RaspberryPi))),
            [
                "!throttling: the soft temperature limit is reached since the board was started: cool the board"
            ]
        );
        let cool = root(&[("sys/devices/platform/soc/soc:firmware/get_throttled", "0")]);
        assert_eq!(
            lines(&throttling(cool.path(), &board(Family::RaspberryPi))),
            ["throttling: none since the board was started"]
        );
        assert_eq!(
            lines(&throttling(root(&[]).path(), &board(Family::RaspberryPi))),
            ["-throttling: the firmware does not tell"]
        );
    }

    #[test]
    fn vcgencmd_is_asked_if_the_kernel_does_not_tell() {
        let pi = root(&[("script", "#!/bin/sh\necho throttled=0x10000\n"), ("usr/bin/keep", "")]);
        // Copied by another process, so that no thread of this one holds it open for writing.
        let install = ["-m", "755", "script", "usr/bin/vcgencmd"];
        assert!(Command::new("install").args(install).current_dir(pi.path()).status().unwrap().success());
        assert_eq!(
            lines(&throttling(pi.path(), &board(Family::RaspberryPi))),
            ["!throttling: under-voltage since the board was started: use a power supply that is made for \
                 this board"]
        );
    }

    #[test]
    fn other_boards_tell_by_their_cooling_devices() {
        let jetson = root(&[
            ("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0\n"),
            ("sys/class/thermal/cooling_device0/cur_state", "2\n"),
            ("sys/class/thermal/cooling_device1/type", "pwm-fan\n"),
            ("sys/class/thermal/cooling_device1/cur_state", "3\n"),
            ("sys/class/thermal/cooling_device2/type", "gpu-throttle-alert\n"),
            ("sys/class/thermal/cooling_device2/cur_state", "0\n"),
        ]);
        assert_eq!(
            lines(&throttling(jetson.path(), &board(Family::Jetson))),
            ["!throttling: cpufreq-cpu0 is slowed down now: cool the board, or raise its power mode"]
        );
        assert_eq!(
            lines(&throttling(root(&[]).path(), &board(Family::Other))),
            ["-throttling: none is reported"]
        );
    }

    #[test]
    fn the_sensor_nearest_to_its_limit_is_reported() {
        let hot = root(&[
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "84500\n"),
            ("sys/class/thermal/thermal_zone1/type", "gpu-thermal\n"),
            ("sys/class/thermal/thermal_zone1/temp", "86000\n"),
            ("sys/class/thermal/thermal_zone1/trip_point_0_type", "passive\n"),
            ("sys/class/thermal/thermal_zone1/trip_point_0_temp", "99000\n"),
            ("sys/class/thermal/thermal_zone2/type", "off\n"),
            ("sys/class/thermal/thermal_zone2/temp", "-274000\n"),
        ]);
        assert_eq!(
            lines(&temperature(hot.path())),
            [
                "temperature: 84.5 °C (cpu-thermal)",
                "!temperature: 84.5 °C (cpu-thermal): above 80 °C it is slowed down; cool the board"
            ]
        );
        assert_eq!(lines(&temperature(root(&[]).path())), ["-temperature: no sensor"]);
    }

    #[test]
    fn little_memory_is_pointed_out() {
        let small =
            root(&[("proc/meminfo", "MemTotal:  427000 kB\nMemFree: 1 kB\nMemAvailable:   90000 kB\n")]);
        let found = lines(&memory(small.path()));
        assert_eq!(found[0], "memory: 416 MiB, of which 87 MiB are available");
        assert!(found[1].starts_with("!memory: 87 MiB are available: camfire takes"), "{found:?}");
        assert_eq!(lines(&memory(root(&[]).path())), ["-memory: unknown"]);
    }
}
