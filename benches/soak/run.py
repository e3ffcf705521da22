#!/usr/bin/env python3
"""Soak test: the packaged camfire for hours, used as its users do, with what goes wrong in that time.

    make soak HOURS=2                              writes build/soak/soak.csv and build/soak/soak.png
    benches/soak/run.py CAMFIRE HOURS FOLDER       the same, with another binary and folder

Four cameras over RTSP: two that work, one that is unreachable for 20 s every 3 minutes, one whose stream ends every
hour. Meanwhile the broker is restarted every 10 minutes (15 s away), the configuration is reloaded every 7 minutes
(every third time it is invalid), a snapshot is requested every 30 s, a camera is paused for a minute every
15 minutes, Prometheus' metrics are read every 10 s, and the pictures are at their limit of 8 MiB. A subscriber with a
session of its own checks that no durable message is missing.

The exit status is 1 if something is lost, an account does not balance, or memory, threads or descriptors grow after
the first half hour.
"""

import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (the backend comes first)

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from broker import SAVE_EVERY_CHANGE, Mosquitto, Subscriber, free_port, wait  # noqa: E402

SAMPLE_EVERY_S = 10
# What a process reaches in its first minutes is not growth.
WARM_UP_S = 1800
FRAME_RATE = 15
KIB = 1024


class Camera:
    """An RTSP server in a process of its own."""

    def __init__(self, frames=None):
        self.port = free_port()
        self.command = ["/usr/bin/python3", HERE / "cameras.py", str(self.port), ROOT / "assets/demo.mp4"]
        self.command += [str(frames)] if frames else []
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def flip(self):
        self.stop() if self.process else self.start()


def configuration(folder, broker, web_port, cameras, rate_fps):
    sections = "".join(
        f'[cameras.{name}]\nsource = "rtsp://127.0.0.1:{camera.port}/cam"\nlabels = ["any", "unknown"]\n'
        + {"yard": 'view_every = "5s"\n', "door": f"rate_fps = {rate_fps}\nheatmap = true\n"}.get(name, "")
        for name, camera in cameras.items()
    )
    return (
        f'[node]\nname = "soak"\n[mqtt]\nport = {broker.port}\n[commands]\naccept = true\n'
        f'[outbox]\nfile = "{folder}/outbox.db"\n[pictures]\ndirectory = "{folder}/pictures"\nmax_mib = 8\npublish = true\n'
        f'[homeassistant]\ndiscovery = true\n[web]\nlisten = "127.0.0.1:{web_port}"\n{sections}'
    )


def unit_environment():
    """The environment variables of the unit, except paths of the installed service."""
    unit = (ROOT / "systemd/camfire.service").read_text()
    found = re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE)
    return {name: value for name, value in found if not value.startswith("/")}


def kib(pid, key):
    return int(re.search(rf"^{key}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1])


class Stats:
    """The newest stats message, and all faults in the frame counts of any."""

    def __init__(self, subscriber):
        self.newest, self.faults = {}, []
        accept = subscriber.client.on_message
        # Every message goes to the subscriber's own check as well.
        subscriber.client.on_message = lambda client, data, message: (
            self.accept(message),
            accept(client, data, message),
        )

    def accept(self, message):
        if not message.topic.endswith("/stats"):
            return
        self.newest = json.loads(message.payload)
        for name, c in self.newest["cameras"].items():
            parts = ("analysed", "skipped_rate", "skipped_still", "shed", "dropped", "failed", "pending")
            if c["captured"] != sum(c[part] for part in parts):
                self.faults.append(f"{name} at {self.newest['at']}: {c}")


def sample(pid, elapsed_s, stats, subscriber, cpu_hz=os.sysconf("SC_CLK_TCK")):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    written = re.search(r"^write_bytes: (\d+)", pathlib.Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    cameras, delivery = stats.newest.get("cameras", {}), stats.newest.get("delivery", {})
    total = lambda key: sum(camera[key] for camera in cameras.values())  # noqa: E731
    latencies = [c["latency_ms"]["total"]["p99"] for c in cameras.values() if c["latency_ms"]["total"]]
    return {
        "elapsed_s": round(elapsed_s),
        "rss_kib": kib(pid, "VmRSS"),
        "threads": kib(pid, "Threads"),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "cpu_s": (int(fields[11]) + int(fields[12])) / cpu_hz,
        "written_kib": int(written[1]) // KIB,
        "waiting": delivery.get("waiting", 0),
        "oldest_waiting_s": delivery.get("oldest_waiting_s", 0),
        "lost": delivery.get("lost", 0),
        "accepted": delivery.get("accepted", 0),
        "outbox_kib": delivery.get("file_bytes", 0) // KIB,
        "pictures_kib": stats.newest.get("pictures", {}).get("file_bytes", 0) // KIB,
        **{key: total(key) for key in ("captured", "analysed", "shed", "dropped", "failed", "restarts", "hung_teardowns")},
        "p99_ms": max(latencies, default=""),
        "received": subscriber.count(),
        "missing": subscriber.missing(),
    }


def slope_per_hour(rows, key):
    """The slope of the least-squares line after the warm-up; None if the test was too short for one."""
    rows = [row for row in rows if row["elapsed_s"] >= WARM_UP_S]
    if len(rows) < 60:
        return None
    x, y = [row["elapsed_s"] / 3600 for row in rows], [row[key] for row in rows]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def highest(rows, key):
    """The highest values of the first and of the last half after the warm-up."""
    rows = [row[key] for row in rows if row["elapsed_s"] >= WARM_UP_S]
    half = len(rows) // 2
    return max(rows[:half]), max(rows[half:])


def plot(rows, target):
    hours = [row["elapsed_s"] / 3600 for row in rows]
    panels = [
        ("memory (RSS), MiB", [row["rss_kib"] / KIB for row in rows]),
        ("threads", [row["threads"] for row in rows]),
        ("descriptors", [row["descriptors"] for row in rows]),
        ("outbox: messages waiting", [row["waiting"] for row in rows]),
        ("latency p99, ms", [row["p99_ms"] or float("nan") for row in rows]),
        ("written to disk, MiB", [row["written_kib"] / KIB for row in rows]),
    ]
    figure, axes = plt.subplots(3, 2, figsize=(10, 7), sharex=True, layout="constrained")
    for axis, (title, values) in zip(axes.flat, panels):
        axis.plot(hours, values, linewidth=0.8)
        axis.set_title(title, fontsize=10)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("hours")
    figure.savefig(target, dpi=80)


def judge(rows, subscriber, stats):
    """Prints the result, one line per rule. Returns whether all hold."""
    last = rows[-1]
    rules = [
        ("durable messages received, missing", f"{subscriber.count()}, {subscriber.missing()}", subscriber.missing() == 0),
        ("reported as lost, faults in the order", f"{last['lost']}, {len(subscriber.faults)}", last["lost"] == 0 and not subscriber.faults),
        ("stats whose frame counts do not balance", f"{len(stats.faults)} {stats.faults[:1]}", not stats.faults),
        ("pictures at most, KiB", max(row["pictures_kib"] for row in rows), max(row["pictures_kib"] for row in rows) <= 8 * KIB),
        ("hung teardowns", last["hung_teardowns"], last["hung_teardowns"] == 0),
    ]
    slope = slope_per_hour(rows, "rss_kib")
    if slope is None:
        print(f"memory, threads and descriptors are not judged: less than {WARM_UP_S} s after the warm-up")
    else:
        rules.append(("memory slope, KiB per hour", round(slope), slope < KIB))
        for key in ("threads", "descriptors"):
            first, second = highest(rows, key)
            rules.append((f"{key}: highest in the first, in the second half", f"{first}, {second}", second <= first + 2))
    for rule, value, holds in rules:
        print(f"{'ok' if holds else 'FAILED':6} {rule}: {value}")
    cpu, span = last["cpu_s"] - rows[0]["cpu_s"], last["elapsed_s"] - rows[0]["elapsed_s"]
    print(f"       CPU: {100 * cpu / span:.1f} % of a core; written: {last['written_kib'] / KIB:.0f} MiB; camera restarts: {last['restarts']}")
    return all(holds for *_, holds in rules)


def main():
    program, hours, out = pathlib.Path(sys.argv[1]).resolve(), float(sys.argv[2]), pathlib.Path(sys.argv[3]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("outbox.db*"):
        old.unlink()
    (out / "settings.json").unlink(missing_ok=True)
    broker = Mosquitto(out, SAVE_EVERY_CHANGE)
    subscriber = Subscriber([broker.port], "soak")
    stats = Stats(subscriber)
    frames_an_hour = 3600 * FRAME_RATE
    cameras = {name: Camera() for name in ("yard", "door", "flapping")} | {"hourly": Camera(frames_an_hour)}
    for camera in cameras.values():
        camera.start()
    file, web_port = out / "camfire.toml", free_port()
    write = lambda rate_fps: file.write_text(configuration(out, broker, web_port, cameras, rate_fps))  # noqa: E731
    write(5)
    log = open(out / "camfire.log", "w")
    environment = {**os.environ, **unit_environment()}
    daemon = subprocess.Popen([program, "run", "--config", file], stderr=log, env=environment)

    def command(topic, **fields):
        subscriber.client.publish(f"camfire/soak/{topic}", json.dumps(fields), qos=1)

    def restart_broker():
        if broker.process.poll() is None:
            broker.process.terminate()
            broker.process.wait()
        else:
            broker.start()

    reloads = 0

    def reload():
        nonlocal reloads
        reloads += 1
        write("'many'" if reloads % 3 == 0 else 4 + reloads % 2)
        daemon.send_signal(signal.SIGHUP)

    def read_metrics():
        urllib.request.urlopen(f"http://127.0.0.1:{web_port}/metrics", timeout=10).read()

    # (first at, then every, what), in seconds. What is undone has a second entry.
    schedule = [
        (60, 180, cameras["flapping"].flip),
        (80, 180, cameras["flapping"].flip),
        (300, 600, restart_broker),
        (315, 600, restart_broker),
        (200, 420, reload),
        (20, 30, lambda: command("yard/command", do="snapshot")),
        (400, 900, lambda: command("door/command", do="pause")),
        (460, 900, lambda: command("door/command", do="resume")),
        (5, 10, read_metrics),
    ]
    rows, began = [], time.monotonic()
    due = [first for first, _, _ in schedule]
    next_sample = SAMPLE_EVERY_S
    with open(out / "soak.csv", "w", newline="") as text:
        writer = None
        while (elapsed_s := time.monotonic() - began) < hours * 3600:
            if daemon.poll() is not None:
                sys.exit(f"camfire ended with {daemon.returncode}; see {out}/camfire.log")
            for i, (_, every, action) in enumerate(schedule):
                if elapsed_s >= due[i]:
                    due[i] += every
                    action()
            if elapsed_s >= next_sample:
                next_sample += SAMPLE_EVERY_S
                rows.append(sample(daemon.pid, elapsed_s, stats, subscriber))
                writer = writer or csv.DictWriter(text, rows[0])
                if len(rows) == 1:
                    writer.writeheader()
                writer.writerow(rows[-1])
                text.flush()
            time.sleep(0.5)
    # The broker may be away now.
    if broker.process.poll() is not None:
        broker.start()
    wait("everything to be delivered", lambda: stats.newest["delivery"]["waiting"] == 0 and subscriber.missing() == 0, 120)
    daemon.terminate()
    daemon.wait()
    for camera in cameras.values():
        camera.stop()
    broker.kill()
    plot(rows, out / "soak.png")
    sys.exit(not judge(rows, subscriber, stats))


if __name__ == "__main__":
    main()
