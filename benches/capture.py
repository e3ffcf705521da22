#!/usr/bin/env python3
"""Measures capture for docs/capture.md: CPU cost, latency, scaling, memory and endurance.

    make measure-capture                    all measurements, about 15 minutes
    python3 benches/capture.py cpu still    only these measurements; without names, lists them

Requires the release build, mosquitto and the Debian packages python3-gi, python3-numpy,
gir1.2-gst-rtsp-server-1.0, mosquitto-clients, gstreamer1.0-tools and gstreamer1.0-plugins-ugly. Clips of
fixed cameras are read from the folder CLIPS; the default is the bundled clip. CPU time is the user and system
time of the whole process as reported by the kernel. Ratios compare values of the same run.
"""

import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CAMFIRE = os.environ.get("CAMFIRE_BINARY", str(ROOT / "target/release/camfire"))
WORK = pathlib.Path(tempfile.mkdtemp(prefix="camfire-capture-"))
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def clips():
    folder = os.environ.get("CLIPS")
    found = sorted(pathlib.Path(folder).glob("*.mp4")) if folder else []
    return found or [ROOT / "assets/demo.mp4"]


def gst(line):
    subprocess.run(["gst-launch-1.0", "-q", *line.split()], check=True)


def transcode(source, name, width, height, fps=25, gop=25, kbit=4000):
    """Transcodes the clip as a camera would send it: no B frames, one reference frame, a target bitrate."""
    target = WORK / name
    if not target.exists():
        gst(
            f"filesrc location={source} ! decodebin ! videoconvert ! videoscale ! videorate ! "
            f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1,pixel-aspect-ratio=1/1 ! "
            f"x264enc bitrate={kbit} key-int-max={gop} bframes=0 ref=1 option-string=scenecut=0 ! "
            f"video/x-h264,profile=high ! h264parse ! mp4mux ! filesink location={target}"
        )
    return target


def still_clip(width, height, fps=25, gop=25, seconds=40, kbit=4000):
    """Generates a clip of a static scene with sensor noise."""
    import numpy

    target, raw = WORK / "still.mp4", WORK / "still.yuv"
    random = numpy.random.default_rng(1)
    y, x = numpy.mgrid[0:height, 0:width]
    scene = 90 + 50 * numpy.sin(x / 37) * numpy.cos(y / 53) + 30 * ((x // 160 + y // 120) % 2)
    chroma = numpy.full((height // 2, width // 2), 128, numpy.uint8)
    noise = [random.normal(0, 2.5, scene.shape) for _ in range(8)]
    with open(raw, "wb") as f:
        for i in range(seconds * fps):
            # Every frame has different noise: one of eight fields, rolled by a different distance.
            frame = scene + numpy.roll(noise[i % 8], (7 * i, 13 * i), (0, 1))
            f.write(frame.clip(16, 235).astype(numpy.uint8).tobytes() + chroma.tobytes() * 2)
    gst(
        f"filesrc location={raw} ! rawvideoparse format=i420 width={width} height={height} framerate={fps}/1 ! "
        f"x264enc bitrate={kbit} key-int-max={gop} bframes=0 option-string=scenecut=0 ! h264parse ! mp4mux ! "
        f"filesink location={target}"
    )
    raw.unlink()
    return target


class Camfire:
    """A running daemon with its own broker, and every message that it publishes."""

    def __init__(self, config, interval="1s"):
        port = free_port()
        conf = WORK / f"broker-{port}.conf"
        conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
        mosquitto = "/usr/sbin/mosquitto" if os.path.exists("/usr/sbin/mosquitto") else "mosquitto"
        self.broker = subprocess.Popen([mosquitto, "-c", conf], stderr=subprocess.DEVNULL)
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        self.received, self.lock = [], threading.Lock()
        sub = ["mosquitto_sub", "-p", str(port), "-t", "#", "-F", "%t\t%p"]
        self.listener = subprocess.Popen(sub, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._listen, daemon=True).start()
        file = WORK / f"config-{port}.toml"
        file.write_text(f"[mqtt]\nport = {port}\n[stats]\ninterval = '{interval}'\n{config}")
        log = open(WORK / f"log-{port}.txt", "w")
        self.process = subprocess.Popen([CAMFIRE, "run", "--config", file], stderr=log)

    def _listen(self):
        for line in self.listener.stdout:
            topic, _, payload = line.rstrip("\n").partition("\t")
            with self.lock:
                self.received.append((time.monotonic(), topic, payload))

    def messages(self, suffix, since=0.0):
        with self.lock:
            found = [(t, p) for t, topic, p in self.received if topic.endswith(suffix) and t >= since]
        return [(t, json.loads(p)) for t, p in found if p.startswith("{")]

    def wait(self, suffix, matches=lambda m: True, timeout=60):
        """Waits for a matching message on a topic that ends in `suffix`. Returns (arrival time, message)."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for t, message in self.messages(suffix):
                if matches(message):
                    return t, message
            time.sleep(0.05)
        raise SystemExit(f"no message on {suffix} within {timeout} s; see the logs in {WORK}")

    def stats(self):
        """Waits for the next stats message. Returns it and the CPU seconds used so far."""
        now = time.monotonic()
        while True:
            found = self.messages("/stats", now)
            if found:
                return found[0][1], self.cpu_s()
            time.sleep(0.01)

    def cpu_s(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def status(self, key):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(key + ":"):
                return int(line.split()[1])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        time.sleep(0.2)
        self.listener.kill()
        self.broker.kill()
        self.broker.wait()

    def cost_ms(self, seconds, settle=3):
        """Returns CPU milliseconds per captured frame, over all cameras and `seconds`, and the last stats."""
        time.sleep(settle)
        frames = lambda stats: sum(c["captured"] for c in stats["cameras"].values())
        first, cpu0 = self.stats()
        time.sleep(seconds)
        last, cpu1 = self.stats()
        return 1e3 * (cpu1 - cpu0) / (frames(last) - frames(first)), last


def camera(name, source, **keys):
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return f"[cameras.{name}]\nsource = '{source}'\n{lines}"


def child_cost_ms(line, frames):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    gst(line)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / frames


def count_frames(clip):
    line = f"gst-launch-1.0 -v filesrc location={clip} ! qtdemux ! h264parse ! identity silent=false ! fakesink"
    return subprocess.run(line.split(), capture_output=True, text=True).stdout.count("chain")


def cpu():
    """CPU per source frame, 1080p25 with moving objects, 5 fps analysed, compared with decodebin to RGB."""
    clip = transcode(clips()[-1], "moving-1080p.mp4", 1920, 1080)
    frames = count_frames(clip)
    reference, decode, camfire, adaptive = [], [], [], []
    for _ in range(2):
        reference.append(child_cost_ms(
            f"filesrc location={clip} ! decodebin ! videoconvert ! videoscale ! "
            "video/x-raw,format=RGB,width=227,height=227 ! fakesink sync=false", frames))
        decode.append(child_cost_ms(
            f"filesrc location={clip} ! qtdemux ! h264parse ! avdec_h264 max-threads=1 ! fakesink sync=false", frames))
        for cost, how in ((camfire, "all"), (adaptive, "auto")):
            daemon = Camfire(camera("yard", f"file://{clip}", realtime=False, decode=how))
            cost.append(daemon.cost_ms(6)[0])
            daemon.stop()
    reference, decode, camfire, adaptive = map(min, (reference, decode, camfire, adaptive))
    print(f"cpu: {reference:.2f} ms/frame decodebin ! videoconvert ! videoscale ! RGB; {decode:.2f} decoder only; "
          f"{camfire:.2f} camfire: {camfire / reference:.2f} x, without the decoder {(camfire - decode) / reference:.2f} x; "
          f"{adaptive:.2f} with decode = auto: {adaptive / reference:.2f} x")


def still():
    """CPU per source frame on a static scene at real-time speed: adaptive compared with full decoding."""
    clip = still_clip(1920, 1080)
    cost = {}
    for decode in ("all", "auto"):
        daemon = Camfire(camera("yard", f"file://{clip}", decode=decode))
        cost[decode], stats = daemon.cost_ms(20, settle=12)
        if decode == "auto":
            yard = stats["cameras"]["yard"]
            print(f"  keyframes_only: {yard['keyframes_only']}, {yard['skipped_still']} frames skipped")
        daemon.stop()
    print(f"still: {cost['all']:.2f} ms/frame with full decoding, {cost['auto']:.2f} adaptive: {cost['auto'] / cost['all']:.2f} x")


def motion_times(clip, fps):
    """Returns the times, in seconds, at which background subtraction detects motion, checked at 5 fps."""
    import numpy

    raw = WORK / "gray.raw"
    gst(f"filesrc location={clip} ! decodebin ! videoconvert ! videoscale ! "
        f"video/x-raw,format=GRAY8,width=320,height=180,pixel-aspect-ratio=1/1 ! filesink location={raw}")
    frames = numpy.fromfile(raw, numpy.uint8).reshape(-1, 180, 320).astype(numpy.float32)
    background, moving = frames[0].copy(), []
    for i in range(0, len(frames), max(1, round(fps / 5))):
        difference = numpy.abs(frames[i] - background) > 20
        # Requires neighbouring pixels in both directions, which noise rarely has.
        solid = difference[1:-1, 1:-1] & difference[:-2, 1:-1] & difference[2:, 1:-1] & difference[1:-1, :-2] & difference[1:-1, 2:]
        if solid.sum() > 12:
            moving.append(i / fps)
        background += 0.1 * (frames[i] - background)
    return moving


def adaptive():
    """Which motion, as detected with full decoding, adaptive decoding analyses."""
    for source in clips() + ([] if clips()[0].parent.name == "assets" else [ROOT / "assets/demo.mp4"]):
        for gop_s in (1, 2):
            clip = transcode(source, f"{source.stem}-gop{gop_s}.mp4", 640, 360, fps=15, gop=15 * gop_s, kbit=600)
            moving = motion_times(clip, 15)
            motions = []
            for t in moving:
                if motions and t - motions[-1][1] <= 1.0:
                    motions[-1][1] = t
                else:
                    motions.append([t, t])
            daemon = Camfire(camera("yard", f"file://{clip}", loop=False))
            daemon.wait("/yard/status", lambda m: m["state"] == "ended", 120)
            time.sleep(1.2)
            from datetime import datetime
            at = [datetime.fromisoformat(m["captured_at"].replace("Z", "+00:00")).timestamp()
                  for _, m in daemon.messages("/yard/detections")]
            analysed_s = [t - at[0] for t in at]
            counts = daemon.messages("/stats")[-1][1]["cameras"]["yard"]
            daemon.stop()
            long = [m for m in motions if m[1] - m[0] >= gop_s]
            late = [min((abs(t - m[0]) for t in analysed_s), default=99) for m in long]
            missed = [t for t in moving if min(abs(t - l) for l in analysed_s) > 0.21]
            print(f"adaptive: {clip.name}: {len(long)} motions longer than the keyframe interval, "
                  f"{sum(l <= 0.21 for l in late)} analysed from their start (largest offset {max(late, default=0):.2f} s); "
                  f"{len(moving)} times with motion, {len(missed)} of them not analysed; "
                  f"{counts['skipped_still']} of {counts['captured']} frames not decoded, {counts['dropped']} dropped")


class Rtsp:
    """An RTSP server that runs in a separate process."""

    def __init__(self, width=640, height=360, fps=15):
        self.port = free_port()
        command = ["/usr/bin/python3", ROOT / "benches/rtsp_camera.py", *map(str, (self.port, width, height, fps))]
        self.process = subprocess.Popen(command)
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            time.sleep(0.05)
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"

    def stop(self):
        self.process.kill()
        self.process.wait()


def latency():
    """RTSP on loopback at 15 fps: from the camera's clock to the broker connection."""
    server = Rtsp()
    daemon = Camfire(camera("yard", server.url, rate_fps=15, decode="all"), interval="30s")
    daemon.wait("/yard/detections", lambda m: m["capture_clock"] == "sender")
    daemon.stats()
    stats, _ = daemon.stats()
    print("latency:", json.dumps(stats["cameras"]["yard"]["latency_ms"]))
    daemon.stop()
    server.stop()


def scaling():
    """1 to 16 cameras at 360p, 5 fps, then 16 cameras at 25 fps, more than the machine can analyse."""
    clip = transcode(clips()[-1], "moving-360p5.mp4", 640, 360, fps=5, gop=5, kbit=300)
    fast = transcode(clips()[-1], "moving-360p25.mp4", 640, 360, fps=25, gop=25, kbit=600)
    base = None
    for count in (1, 2, 4, 8, 16):
        daemon = Camfire("".join(camera(f"c{i}", f"file://{clip}") for i in range(count)))
        time.sleep(4)
        first, cpu0 = daemon.stats()
        start = time.monotonic()
        time.sleep(12)
        last, cpu1 = daemon.stats()
        share = 100 * (cpu1 - cpu0) / (time.monotonic() - start)
        base = base or share
        analysed = [last["cameras"][f"c{i}"]["analysed"] - first["cameras"][f"c{i}"]["analysed"] for i in range(count)]
        print(f"scaling: {count} cameras: {share:.1f} % of a core, {share / count / base:.2f} x per camera; "
              f"{min(analysed)} to {max(analysed)} frames analysed per camera; memory {daemon.status('VmRSS') // 1024} MiB")
        daemon.stop()
    daemon = Camfire("".join(camera(f"c{i}", f"file://{fast}", rate_fps=25, decode="all") for i in range(16)))
    time.sleep(5)
    first, _ = daemon.stats()
    time.sleep(15)
    last, _ = daemon.stats()
    daemon.stop()
    rates, latencies = [], []
    for name, stats in last["cameras"].items():
        rates.append(stats["analysed"] - first["cameras"][name]["analysed"])
        latencies.append(stats["latency_ms"]["total"]["p99"])
        parts = ("analysed", "skipped_rate", "skipped_still", "shed", "dropped", "failed", "pending")
        assert stats["captured"] == sum(stats[p] for p in parts), stats
    print(f"scaling: 16 cameras at 25 fps: {min(rates)} to {max(rates)} frames analysed per camera in 15 s "
          f"(mean {sum(rates) / 16:.0f}), p99 {max(latencies):.0f} ms, frame counts add up")


def memory():
    """Memory of one additional 720p camera, with MALLOC_ARENA_MAX as set in systemd/camfire.service."""
    os.environ["MALLOC_ARENA_MAX"] = "2"
    clip = transcode(clips()[-1], "moving-720p.mp4", 1280, 720, fps=15, gop=15, kbit=2000)
    resident = {}
    for count in (1, 5):
        daemon = Camfire("".join(camera(f"c{i}", f"file://{clip}") for i in range(count)))
        time.sleep(15)
        resident[count] = daemon.status("VmRSS") / 1024
        daemon.stop()
    print(f"memory: {resident[1]:.0f} MiB with one 720p camera, {(resident[5] - resident[1]) / 4:.1f} MiB per additional camera")


class CuttingProxy:
    """A TCP proxy that closes every connection after `seconds`."""

    def __init__(self, port, seconds):
        self.server, self.seconds, self.cut = port, seconds, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.server))
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()
            threading.Timer(self.seconds, self._cut, (client, server)).start()

    def _cut(self, *ends):
        self.cut += 1
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    @staticmethod
    def _pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass


def reconnects():
    """Memory, threads and descriptors after 2000 closed connections, with MALLOC_ARENA_MAX as in the unit."""
    os.environ["MALLOC_ARENA_MAX"] = "2"
    server = Rtsp()
    proxies = [CuttingProxy(server.port, 0.6) for _ in range(8)]
    config = "".join(
        camera(f"c{i}", f"rtsp://127.0.0.1:{p.port}/cam", max_backoff="100ms") for i, p in enumerate(proxies))
    daemon = Camfire(config)
    restarts = lambda: sum(c["restarts"] for c in daemon.stats()[0]["cameras"].values())
    marks = {}
    for goal in (100, 1000, 2000):
        while (done := restarts()) < goal:
            time.sleep(0.5)
        # The mean of several samples, because pipelines start and stop all the time.
        samples = []
        for _ in range(20):
            samples.append((daemon.status("VmRSS"), daemon.status("Threads"), daemon.descriptors()))
            time.sleep(0.2)
        marks[goal] = done, *(round(sum(column) / len(samples)) for column in zip(*samples))
        print(f"reconnects: after {done}: {marks[goal][1] / 1024:.1f} MiB, {marks[goal][2]} threads, {marks[goal][3]} descriptors",
              flush=True)
    growth = lambda a, b: 100 * (marks[b][1] / marks[a][1] - 1)
    print(f"reconnects: memory grew by {growth(100, 1000):.1f} % from 100 to 1000, {growth(1000, 2000):.1f} % from 1000 to 2000")
    daemon.stop()
    server.stop()


ALL = {f.__name__: f for f in (cpu, still, adaptive, latency, scaling, memory, reconnects)}


def main():
    names = sys.argv[1:]
    if not names or any(name not in ALL for name in names):
        sys.exit(__doc__ + "\n" + "\n".join(f"{name:12} {f.__doc__}" for name, f in ALL.items()))
    for name in names:
        ALL[name]()
        sys.stdout.flush()


main()
