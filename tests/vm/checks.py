"""The checks, in the order in which they run. Each is a step: a name, a limit in seconds, and a function.

The steps are one life of an installation, from the first start to the purge, on a disk that no camfire has been on.
A step returns what it has measured, in a few words, and raises `Failure` if a check is not met.
"""

import json
import re

import outside
import payload
import outbox
from machine import HOST_ADDRESS, Failure

CAMERAS = ("clip", "net", "usb")
STEPS = []
# Frames of a camera that must arrive for it to count as delivering.
FRAMES = 4
MAX_SCORE = 1.7
DROP_IN = "/run/systemd/system/camfire.service.d/test.conf"


def step(name, limit_s):
    def add(function):
        STEPS.append((name, limit_s, function))
        return function
    return add


class Site:
    """The machine with what stands around it, as the steps use it."""

    def __init__(self, machine, subscriber, broker_port, rtsp_camera, versions):
        self.machine, self.subscriber, self.broker_port = machine, subscriber, broker_port
        self.rtsp_camera, self.versions = rtsp_camera, versions

    def config(self, durability="grouped", clip_lines="rate_fps = 1", more=""):
        """The configuration of the test: the frames of `net` and `usb` are all analysed and all durable, so that
        a missing one shows. An inference takes seconds under emulation, so only the clip has objects: everything in
        the pictures of the others is too small. Their frames do not wait for those of the clip."""
        return f"""\
node.name = "porch"
commands.accept = true
stats.interval = "2s"
outbox.durability = "{durability}"
outbox.durable_kinds = ["detections"]
engine.workers = 4
{more}
[cameras.clip]
source = "file:///payload/{payload.CLIP}"
loop = true
realtime = true
decode = "keyframes"
{clip_lines}

[cameras.net]
source = "rtsp://{HOST_ADDRESS}:{self.rtsp_camera.port}/cam"
decode = "all"
rate_fps = 100
min_size = 1

[cameras.usb]
source = "v4l2:///dev/video0"
rate_fps = 100
min_size = 1
options = {{ max_width = 320, max_height = 240, max_fps = 2 }}
"""

    def configure(self, text):
        self.machine.write("/etc/camfire/camfire.toml", text)

    def property(self, name):
        return self.machine.output(f"systemctl show camfire --property {name} --value")

    def wait_active(self, other_than=None):
        """Waits until the service is active, in another process than `other_than`. Returns the process id."""
        def pid():
            lines = self.machine.output("systemctl show camfire --property ActiveState --property MainPID").splitlines()
            values = dict(line.split("=") for line in lines)
            is_other = values["MainPID"] not in ("0", other_than)
            return values["MainPID"] if values["ActiveState"] == "active" and is_other else None

        return self.machine.clock.wait("camfire to be active", pid)

    def wait_log(self, cursor, text):
        """Waits for a line in camfire's log after the journal's `cursor`. Returns the log from there."""
        def log():
            log = self.log(cursor)
            return log if text in log else None

        return self.machine.clock.wait(f"the log line: {text}", log)

    def log(self, cursor):
        return self.machine.output(f"journalctl --unit camfire --output cat --after-cursor '{cursor}'")

    def cursor(self):
        """The present end of camfire's log. An entry of another unit will not do: journalctl would skip the first
        one of camfire after it."""
        return self.machine.output(
            "journalctl --unit camfire --lines 1 --show-cursor --output cat | sed -n 's/^-- cursor: //p'")

    def wait_frames(self, start, cameras=CAMERAS, count=FRAMES):
        """Waits until each of the cameras has delivered frames since message number `start`."""
        def have_all():
            return all(len(self.subscriber.since(start, camera, "detections")) >= count for camera in cameras)

        try:
            self.machine.clock.wait("detections", have_all)
        except Failure:
            counts = {camera: len(self.subscriber.since(start, camera, "detections")) for camera in cameras}
            raise Failure(f"timed out while waiting for {count} detections of each camera; have {counts}") from None

    def command(self, **command):
        """Sends a command to the node and returns its answer."""
        start = self.subscriber.count()
        command["id"] = f"vm-{start}"
        outside.publish(self.broker_port, "camfire/porch/command", json.dumps(command))

        def answer():
            answers = [message.json for message in self.subscriber.all()[start:] if message.topic == "camfire/porch/answer"]
            return next((answer for answer in answers if answer["id"] == command["id"]), None)

        return self.machine.clock.wait(f"the answer to {command['do']}", answer)


def check(condition, text):
    if not condition:
        raise Failure(text)


def check_gapless(numbers, what):
    """The numbers must be consecutive."""
    missing = [f"{before + 1} to {after - 1}" for before, after in zip(numbers, numbers[1:]) if after != before + 1]
    check(not missing, f"{what}: missing or out of order: {', '.join(missing)}")


def check_seqs(site, start, cameras):
    """No durable message of these cameras is missing since message number `start`, and the stream is the same."""
    for camera in cameras:
        messages = site.subscriber.durable(start, camera)
        check(len({message.json["stream"] for message in messages}) == 1, f"{camera}: the stream changed")
        check_gapless([message.json["seq"] for message in messages], f"seq of {camera}")


@step("Debian boots, without camfire", 150)
def boot(site):
    site.machine.start()
    site.machine.output("mkdir -p /payload && mount -o ro /dev/vdb /payload")
    site.machine.write("/etc/fstab", "/dev/vda / ext4 defaults 0 1\n/dev/vdb /payload ext4 ro 0 0\n")
    check(site.machine.run("command -v camfire").code != 0, "the image has camfire")
    return site.machine.output("uname -r; systemd-analyze time | head -n 1").replace("\n", ", ")


@step("apt installs the package, whose dependencies suffice", 200)
def install(site):
    machine = site.machine
    # What is there before shows what is left after the purge.
    machine.output("find / -xdev -not -path '/proc/*' | sort > /srv/before; getent passwd group | sort > /srv/accounts")
    machine.output(f"apt-get install --yes --quiet=2 /payload/{payload.FIRST}")
    version = machine.output("dpkg-query --show --showformat '${Version}' camfire")
    check(version == site.versions[0], f"installed is {version}")
    check(machine.output("systemctl is-enabled camfire") == "enabled", "the service is not enabled")
    return version


@step("the service is active and idle without a camera", 60)
def idle(site):
    pid = site.wait_active()
    log = site.machine.output("journalctl --unit camfire --output cat")
    check("No camera is configured" in log, f"the log does not say what to do next:\n{log}")
    check(site.property("NRestarts") == "0", "the service has been restarted")
    children = site.machine.output(f"ls /proc/{pid}/task | wc -l; grep VmRSS /proc/{pid}/status")
    threads, memory = children.splitlines()
    return f"{threads} threads, {int(memory.split()[1]) // 1024} MiB"


@step("mosquitto starts, and the node is online", 90)
def broker(site):
    machine = site.machine
    # The subscriber is outside; Debian's mosquitto listens on loopback only.
    machine.write("/etc/mosquitto/conf.d/outside.conf", "listener 1883\nallow_anonymous true\nmax_queued_messages 0\n")
    machine.output("systemctl enable --now mosquitto")
    # A name of its own, so that the topics are known. Still no camera.
    site.configure('node.name = "porch"\ncommands.accept = true\n')
    machine.output("systemctl reload camfire")

    def is_online():
        return any(message.topic == "camfire/porch/status" and message.payload == "online" for message in site.subscriber.all())

    machine.clock.wait("the node to be online", is_online)


@step("detections of a clip, an RTSP camera and a V4L2 camera, taken up by a reload", 120)
def cameras(site):
    start = site.subscriber.count()
    site.configure(site.config())
    site.machine.output("camfire check && systemctl reload camfire")
    site.wait_frames(start)

    def first_event():
        events = [event for camera in CAMERAS for event in site.subscriber.since(start, camera, "events")]
        return events[0] if events else None

    event = site.machine.clock.wait("an event", first_event)
    pipelines = {camera: site.subscriber.since(start, camera, "status")[-1]["pipeline"] for camera in CAMERAS}
    return f"{', '.join(pipelines.values())}; first event: {event['label']} of {event['camera']}"


@step("reload with one camera changed: the others miss no frame", 90)
def reload(site):
    before = site.wait_active()
    start, cursor = site.subscriber.count(), site.cursor()
    site.wait_frames(start, ("net", "usb"))
    site.configure(site.config(clip_lines="rate_fps = 0.5"))
    changed = site.subscriber.count()
    site.machine.output("systemctl reload camfire")
    # A reload of the step before may be logged only now.
    log = site.wait_log(cursor, "camera 'clip' opened anew")
    check("'net'" not in log and "'usb'" not in log, f"another camera was touched:\n{log}")
    site.wait_frames(changed, count=2 * FRAMES)
    counts = []
    for camera in ("net", "usb"):
        frames = [detections["frame"] for detections in site.subscriber.since(start, camera, "detections")]
        check_gapless(frames, f"frames of {camera}")
        counts.append(f"{camera} {frames[0]} to {frames[-1]}")
    check_seqs(site, start, CAMERAS)
    check(site.wait_active() == before, "the process is another")
    return "frames " + ", ".join(counts)


@step("a broken reload is refused with all its errors, and nothing changes", 60)
def broken_reload(site):
    before = site.wait_active()
    start, cursor = site.subscriber.count(), site.cursor()
    site.wait_frames(start, ("net", "usb"), 1)
    broken = site.config(more='mqtt.port = 99999\nobjects.confirm = "soon"\n') \
        .replace("rate_fps = 100", "rate_fps = -100", 1).replace("realtime", "realtyme")
    site.configure(broken)
    site.machine.run("systemctl reload camfire")
    wrong = ("mqtt.port", "objects.confirm", "cameras.net.rate_fps", "realtyme")
    log = site.wait_log(cursor, "Keeping the running configuration")
    for key in wrong:
        check(key in log, f"the log does not name {key}:\n{log}")
    answer = site.command(do="reload")
    check(answer["ok"] is False, "the command says that the reload was done")
    for key in wrong:
        check(key in answer["error"], f"the answer does not name {key}: {answer['error']}")
    check("refused" in site.property("StatusText"), "systemctl status does not say that the reload was refused")
    refused = site.subscriber.count()
    site.wait_frames(refused, CAMERAS, 2)
    for camera in ("net", "usb"):
        check_gapless([detections["frame"] for detections in site.subscriber.since(start, camera, "detections")],
                      f"frames of {camera}")
    check_seqs(site, start, CAMERAS)
    check(site.wait_active() == before, "the process is another")
    site.configure(site.config())
    return f"{len(wrong)} of {len(wrong)} errors named"


@step("kill -9: systemd starts it again, and no durable message is lost", 90)
def killed(site):
    before = site.wait_active()
    start, cursor = site.subscriber.count(), site.cursor()
    site.wait_frames(start, count=2)
    site.machine.output(f"kill -KILL {before}")
    site.wait_active(other_than=before)
    again = site.subscriber.count()
    site.wait_frames(again)
    check_seqs(site, start, CAMERAS)
    interrupted = [event for camera in CAMERAS for event in site.subscriber.since(start, camera, "events")
                   if event["reason"] == "interrupted"]
    check("code=killed, status=9/KILL" in site.log(cursor), "the journal does not have the kill")
    return f"{len(interrupted)} events ended as interrupted"


@step("a stuck daemon (SIGSTOP) is caught by the watchdog", 150)
def stuck(site):
    before = site.wait_active()
    cursor, restarts = site.cursor(), int(site.property("NRestarts"))
    site.machine.output(f"kill -STOP {before}")
    site.wait_log(cursor, "Watchdog timeout")
    site.wait_active(other_than=before)
    start = site.subscriber.count()
    site.wait_frames(start)
    check(int(site.property("NRestarts")) == restarts + 1, "systemd does not count one restart more")
    return f"WatchdogUSec={site.property('WatchdogUSec')}"


@step("an upgrade keeps configuration and history, and restarts", 120)
def upgrade(site):
    machine = site.machine
    before, start = site.wait_active(), site.subscriber.count()
    site.wait_frames(start, count=1)
    old = site.command(do="history", camera="net", since=0, limit=1)
    config = machine.output("cat /etc/camfire/camfire.toml; stat --format '%U %G %a' /etc/camfire/camfire.toml")
    machine.output(f"apt-get install --yes --quiet=2 -o Dpkg::Options::=--force-confold /payload/{payload.SECOND}")
    version = machine.output("dpkg-query --show --showformat '${Version}' camfire")
    check(version == site.versions[1], f"installed is {version}")
    site.wait_active(other_than=before)
    again = site.subscriber.count()
    site.wait_frames(again)
    kept = machine.output("cat /etc/camfire/camfire.toml; stat --format '%U %G %a' /etc/camfire/camfire.toml")
    check(kept == config, "the configuration or its owner changed")
    new = site.command(do="history", camera="net", since=0, limit=1)
    check((new["stream"], new["first_seq"]) == (old["stream"], old["first_seq"]), f"history: {old} became {new}")
    check(new["last_seq"] > old["last_seq"], "the numbers do not go on")
    check_seqs(site, start, CAMERAS)
    # An upgrade stops the service properly: nothing is left for the next start to end.
    return f"{site.versions[0]} to {version}, history from {new['first_seq']} to {new['last_seq']}"


@step("after a reboot it is active by itself", 150)
def reboot(site):
    start = site.subscriber.count()
    site.machine.reboot()
    site.wait_active()
    site.wait_frames(start, count=1)
    again = site.subscriber.count()
    site.wait_frames(again, count=2)
    check(site.property("NRestarts") == "0", "it needed a restart")
    check_seqs(site, start, CAMERAS)
    return site.machine.output("systemd-analyze time | head -n 1")


def power_cut(site, durability, max_lost_s):
    """Cuts the power while messages are published, and compares what had arrived with what is on the disk."""
    machine = site.machine
    cursor = site.cursor()
    site.configure(site.config(durability=durability))
    machine.output("systemctl reload camfire")
    site.wait_log(cursor, "Configuration is reloaded")
    start = site.subscriber.count()
    site.wait_frames(start, count=2 * FRAMES)
    machine.cut_power()
    arrived = {camera: site.subscriber.durable(start, camera) for camera in CAMERAS}
    # What the kernel does at the next boot: the journal is replayed. Only then is the file readable.
    stored = outbox.read(machine.disk, machine.folder / "outbox")
    check(stored.integrity == "ok", f"integrity_check: {stored.integrity}")
    lost, worst_s = [], 0.0
    for camera, messages in arrived.items():
        missing = [message for message in messages if (camera, message.json["seq"]) not in stored.numbers]
        lost += [f"{camera} {message.json['seq']}" for message in missing]
        if missing:
            worst_s = max(worst_s, outbox.time_s(messages[-1].json) - outbox.time_s(missing[0].json))
        numbers = sorted(seq for name, seq in stored.numbers if name == camera)
        check_gapless(numbers, f"seq of {camera} in the outbox")
    count = sum(map(len, arrived.values()))
    result = f"{count} messages published since the start of the step, {len(lost)} lost, the first {worst_s:.1f} s before the last"
    check(not lost or worst_s <= max_lost_s, f"{result}: {', '.join(lost)}")
    machine.start()
    site.wait_active()
    again = site.subscriber.count()
    site.wait_frames(again, count=2)
    check(machine.run("ls /var/lib/camfire/*.bad-*").code != 0, "the outbox was set aside")
    return result


@step("power cut, durability = strict: nothing that was published is lost", 150)
def power_cut_strict(site):
    return power_cut(site, "strict", 0)


@step("power cut, durability = grouped: at most the last second is lost", 150)
def power_cut_grouped(site):
    return power_cut(site, "grouped", 1)


@step(f"status and sandbox: systemd-analyze security is at most {MAX_SCORE}", 60)
def sandbox(site):
    status = site.machine.output("systemctl status --no-pager camfire")
    check("Active: active (running)" in status, status)
    # How the service runs, not what its file says.
    text = site.machine.output("systemd-analyze security --no-pager camfire")
    score = float(re.search(r"Overall exposure level for camfire.service: ([0-9.]+)", text).group(1))
    check(score <= MAX_SCORE, f"the score is {score}")
    return f"score {score}"


@step("no system call is denied: all cameras run where a denied one would kill camfire", 120)
def denied(site):
    machine = site.machine
    seen = "journalctl --output cat --grep type=1326 --after-cursor"
    # A call that is denied on purpose shows that denials are seen.
    cursor = site.cursor()
    machine.run("systemd-run --quiet --wait --property SystemCallFilter=~@clock date --set @0")
    machine.clock.wait("the denial in the journal", lambda: machine.run(f"{seen} '{cursor}'").out.strip())
    # The unit answers denied calls with an error, which leaves no trace.
    before, start, cursor = site.wait_active(), site.subscriber.count(), site.cursor()
    machine.write(DROP_IN, "[Service]\nSystemCallErrorNumber=kill\n")
    machine.output("systemctl daemon-reload && systemctl restart camfire")
    site.wait_active(other_than=before)
    site.wait_frames(start, count=2 * FRAMES)
    machine.output("systemctl stop camfire")
    # The denial above comes after the end of camfire's log as well.
    lines = [line for line in machine.run(f"{seen} '{cursor}'").out.splitlines() if "camfire" in line]
    check(not lines, "\n".join(lines))
    check(site.property("Result") == "success" and site.property("NRestarts") == "0", "camfire was killed")
    machine.output(f"rm {DROP_IN} && systemctl daemon-reload && systemctl start camfire")


@step("removing keeps configuration and history; purging leaves nothing", 120)
def purge(site):
    machine = site.machine
    machine.output("apt-get remove --yes --quiet=2 camfire")
    check(machine.run("systemctl is-active camfire").out.strip() == "inactive", "the service runs on")
    for path in ("/etc/camfire/camfire.toml", "/var/lib/camfire/outbox.db"):
        check(machine.run(f"[ -e {path} ]").code == 0, f"remove has deleted {path}")
    machine.output("apt-get purge --yes --quiet=2 camfire")
    left = machine.output(
        "find / -xdev -not -path '/proc/*' | sort | comm -13 /srv/before - | grep -i camfire"
        " | grep -v -e '^/var/cache/apt/' -e '^/var/lib/dpkg/' -e '^/var/log/' || true")
    check(not left, f"files are left:\n{left}")
    check(machine.run("systemctl cat camfire").code != 0, "the unit is left")
    accounts = machine.output("getent passwd group | sort | comm -13 /srv/accounts - | grep -i camfire || true")
    check(not accounts, f"accounts are left:\n{accounts}")
    check(machine.run("dpkg-query --show camfire").code != 0, "dpkg still knows the package")
