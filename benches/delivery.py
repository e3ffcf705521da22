#!/usr/bin/env python3
"""Measures what docs/delivery.md and docs/fleet.md tell: that nothing is lost, how fast, and what it costs a disk.

    make measure-delivery                      # all but the bytes, which take a quarter of an hour
    make measure-delivery WHAT="bytes fleet"   # some of: kills outage rate latency cluster fleet bytes

Needs mosquitto and, for `bytes`, the right to mount a file system. A subscriber with a persistent session holds every message
against its number (`seq`), its stream and its uid.
"""

import asyncio
import collections
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import nats
import nats.errors
import paho.mqtt.client as mqtt

ROOT = pathlib.Path(__file__).resolve().parent.parent
CAMFIRE = pathlib.Path(os.environ.get("CAMFIRE") or ROOT / "target/release/camfire")
KEEPS = "persistence true\npersistence_location {dir}/\nautosave_interval 1\nautosave_on_changes true\n"
USUAL = "persistence true\npersistence_location {dir}/\n"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(what, look, seconds=180):
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            sys.exit(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Mosquitto:
    def __init__(self, folder, lines):
        self.port = free_port()
        self.config = pathlib.Path(folder) / "mosquitto.conf"
        # A subscriber that is slow for a moment is not to lose what the broker has promised to keep.
        bounds = "max_queued_messages 0\nmax_inflight_messages 0\n"
        self.config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n{bounds}" + lines.format(dir=folder))
        self.start()

    def start(self):
        program = "/usr/sbin/mosquitto" if os.path.exists("/usr/sbin/mosquitto") else "mosquitto"
        self.process = subprocess.Popen([program, "-c", self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait("mosquitto", lambda: listens(self.port))

    def kill(self):
        self.process.kill()
        self.process.wait()


class Ledger:
    """Everything that a subscriber with a session of its own has got."""

    def __init__(self, ports, name="ledger"):
        self.ports, self.turn = ports, 0
        self.known = collections.defaultdict(dict)
        self.last = collections.defaultdict(int)
        self.repeats, self.faults, self.gaps = 0, [], []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        # A session that the broker has kept has its subscription.
        self.client.on_connect = lambda client, _data, flags, *_: flags.session_present or client.subscribe("#", qos=1)
        self.client.on_message = lambda _client, _data, message: self.take(message)
        self.client.on_disconnect = lambda *_: self.next_broker()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", ports[0], keepalive=5)
        self.client.loop_start()
        wait("the subscriber", self.client.is_connected)

    def next_broker(self):
        self.turn += 1
        self.client._host, self.client._port = "127.0.0.1", self.ports[self.turn % len(self.ports)]

    def take(self, message):
        try:
            said = json.loads(message.payload)
        except ValueError:
            return
        if message.topic.endswith("/gap"):
            self.gaps.append(said)
            return
        if not isinstance(said, dict) or "seq" not in said:
            return
        of = (said["node"], said["camera"], said["stream"])
        seq = said["seq"]
        if seq in self.known[of]:
            self.repeats += 1
            if self.known[of][seq] != said["uid"] + said["at"]:
                self.faults.append(f"{of} {seq} was another message")
            return
        if seq < self.last[of]:
            self.faults.append(f"{of} {seq} after {self.last[of]}")
        self.last[of] = max(seq, self.last[of])
        self.known[of][seq] = said["uid"] + said["at"]

    def count(self):
        return sum(map(len, self.known.values()))

    def missing(self):
        return sum(self.last[of] - len(known) for of, known in self.known.items())

    def verdict(self):
        told = sum(gap["count"] for gap in self.gaps)
        return f"{self.count()} arrived, {self.missing()} missing ({told} told as gaps), {self.repeats} repeats, {len(self.faults)} faults {self.faults[:3]}"


class Log:
    """What a process says, line by line, and when."""

    def __init__(self, stream):
        self.lines = []
        threading.Thread(target=lambda: self.lines.extend((time.monotonic(), line) for line in stream), daemon=True).start()

    def after(self, when, *words):
        return [at for at, line in list(self.lines) if at >= when and all(word in line for word in words)]


def simulate(ports, state, *more, stderr=subprocess.DEVNULL):
    brokers = ["--set", f"mqtt.port={ports[0]}"]
    if ports[1:]:
        brokers += ["--set", "mqtt.fallbacks=" + json.dumps([f"127.0.0.1:{port}" for port in ports[1:]])]
    where = ["--state", state] if state else []
    command = [CAMFIRE, "simulate", "--json", "--set", "node.name=board", *brokers, *where, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)


def outcome(process):
    return json.loads(process.communicate()[0].splitlines()[-1])


def kills(folder):
    for name, lines in (("saving every change", KEEPS), ("as Debian has it", USUAL)):
        here = pathlib.Path(tempfile.mkdtemp(dir=folder))
        broker = Mosquitto(here, lines)
        ledger = Ledger([broker.port])
        arguments = ["--cameras", "4", "--rate", "400"]
        for _ in range(5):
            before = ledger.count()
            board = simulate([broker.port], here, *arguments)
            wait("events", lambda: ledger.count() > before + 1500)
            broker.kill()
            time.sleep(1)
            broker.start()
            wait("events", lambda: ledger.count() > before + 3800)
            board.kill()
            board.wait()
        told = outcome(simulate([broker.port], here, *arguments, "--events", "1500"))
        wait("the last", lambda: ledger.missing() == 0, 30) if lines is KEEPS else time.sleep(3)
        print(f"kills, mosquitto {name}: {ledger.verdict()}; at the end {told['waiting']} waiting, {told['lost']} given up")
        broker.kill()


def outage(folder):
    broker = Mosquitto(folder, KEEPS)
    ledger = Ledger([broker.port])
    broker.kill()
    # An hour of five events a second, sixty times as fast.
    board = simulate([broker.port], folder, "--cameras", "4", "--rate", "300", "--events", "20000")
    time.sleep(60)
    broker.start()
    began = time.monotonic()
    told = outcome(board)
    wait("the last", lambda: ledger.count() >= told["made"], 60)
    print(f"outage of 18000 events, 2000 more meanwhile: {ledger.verdict()}; all there {time.monotonic() - began:.1f} s after the broker")
    broker.kill()


def rate(folder):
    for durability in ("strict", "grouped", "light"):
        here = pathlib.Path(tempfile.mkdtemp(dir=folder))
        broker = Mosquitto(here, "")
        told = outcome(simulate([broker.port], here, "--cameras", "4", "--rate", "4000", "--events", "40000", "--set", f"outbox.durability={durability}"))
        print(f"rate, {durability}: {told['events_per_s']:.0f} durable events a second acknowledged, {told['lost']} lost")
        broker.kill()


def latency(folder):
    for durability in ("strict", "grouped", "light"):
        here = pathlib.Path(tempfile.mkdtemp(dir=folder))
        broker = Mosquitto(here, "")
        told = outcome(simulate([broker.port], here, "--cameras", "4", "--rate", "100", "--events", "3000", "--set", f"outbox.durability={durability}"))
        print(f"latency at 100 a second, {durability}: {json.dumps(told['acknowledged_after_ms'])} ms from event to acknowledgement")
        broker.kill()


class Cluster:
    """Three nats-servers with MQTT and JetStream."""

    def __init__(self, folder):
        self.program = os.environ.get("NATS_SERVER") or str(pathlib.Path(sys.executable).parent / "nats-server")
        self.folder = folder
        self.ports = [free_port() for _ in range(3)]
        self.routes = [free_port() for _ in range(3)]
        self.clients = [free_port() for _ in range(3)]
        self.nodes, self.logs = [None] * 3, [None] * 3
        for node in range(3):
            self.start(node)

    def start(self, node):
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self.routes)
        config = self.folder / f"n{node}.conf"
        config.write_text(
            f'server_name: n{node}\nlisten: 127.0.0.1:{self.clients[node]}\n'
            f'jetstream {{ store_dir: "{self.folder}/d{node}", max_mem: 64MB, max_file: 1GB }}\n'
            f'cluster {{ name: c1, listen: 127.0.0.1:{self.routes[node]}, routes: [{routes}] }}\n'
            f'mqtt {{ listen: 127.0.0.1:{self.ports[node]}, ack_wait: "5s", max_ack_pending: 10000, stream_replicas: 3, js_api_timeout: "1s" }}\n'
        )
        self.nodes[node] = subprocess.Popen([self.program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.logs[node] = Log(self.nodes[node].stderr)
        wait("nats-server", lambda: listens(self.ports[node]))

    def kill(self, node):
        self.nodes[node].kill()
        self.nodes[node].wait()

    def elected(self, when):
        """When the last of the streams that MQTT needs got a leader after `when`, if any had lost theirs."""
        streams = ("$MQTT_sess'", "$MQTT_msgs'")
        return max((at for log in self.logs for stream in streams for at in log.after(when, "new stream leader", stream)), default=None)

    def end(self):
        for node in range(3):
            self.kill(node)


class Consumer(threading.Thread):
    """Reads the stream behind NATS' MQTT with a durable consumer, as an archive would."""

    def __init__(self, ports):
        super().__init__(daemon=True)
        self.servers = [f"nats://127.0.0.1:{port}" for port in ports]
        self.known = collections.defaultdict(set)
        self.is_ready = threading.Event()
        self.start()
        self.is_ready.wait(60)

    def run(self):
        asyncio.run(self.read())

    async def read(self):
        async def ignore(_):
            pass

        client = await nats.connect(self.servers, max_reconnect_attempts=-1, reconnect_time_wait=0.3, error_cb=ignore)
        stream = None
        while True:
            try:
                stream = stream or await client.jetstream(timeout=5).pull_subscribe("$MQTT.msgs.>", durable="archive", stream="$MQTT_msgs")
                self.is_ready.set()
                for message in await stream.fetch(200, timeout=1):
                    try:
                        said = json.loads(message.data)
                        self.known[said["node"], said["camera"], said["stream"]].add(said["seq"])
                    except (ValueError, TypeError, KeyError):
                        pass
                    await message.ack()
            except (nats.errors.Error, OSError, asyncio.TimeoutError):
                await asyncio.sleep(0.1)

    def count(self):
        return sum(map(len, self.known.values()))


def cluster(folder):
    servers = Cluster(folder)
    time.sleep(8)
    # Two, on different nodes: what only one of them has not got was lost on its way to it, and not by the cluster.
    ledgers = [Ledger(servers.ports, "first"), Ledger([*servers.ports[1:], servers.ports[0]], "second")]
    consumer = Consumer(servers.clients)
    arguments = ["--boards", "50", "--rate", "150", "--events", "15000", "--patience", "120s", "--set", "log.level=debug"]
    board = simulate(servers.ports, folder, *arguments, stderr=subprocess.PIPE)
    log = Log(board.stderr)
    pauses = []
    for node in range(3):
        time.sleep(12)
        killed = time.monotonic()
        servers.kill(node)
        time.sleep(16)
        back, elected = log.after(killed, "Broker is connected"), servers.elected(killed)
        election = f"the cluster had its leaders after {elected - killed:.1f} s" if elected else "no leader was lost"
        pauses.append(f"{len(log.after(killed, 'Broker is away'))} connections lost, the last back after {max(back, default=killed) - killed:.1f} s ({election})")
        servers.start(node)
        time.sleep(5)
    told = outcome(board)
    end = time.monotonic() + 60
    while min(reader.count() for reader in [*ledgers, consumer]) < told["made"] and time.monotonic() < end:
        time.sleep(0.1)
    print(f"cluster, 50 boards, three nodes killed in turn: {told['made']} made, {told['acknowledged']} acknowledged, {told['connections']} connections")
    for name, ledger in zip(("first", "second"), ledgers):
        print(f"cluster, {name} session: {ledger.verdict()}")
    print(f"cluster, consumer of the stream: {consumer.count()} arrived")
    for node, pause in enumerate(pauses, 1):
        print(f"cluster, node {node} killed: {pause}")
    servers.end()


def fleet(folder):
    broker = Mosquitto(folder, "")
    for boards in (100, 300, 1000):
        process = simulate([broker.port], None, "--boards", str(boards), "--rate", str(boards / 12), "--events", str(boards * 5))
        peak, cpu = 0, 0
        while process.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{broker.process.pid}/status").read_text()
                peak = max(peak, int(status.split("VmRSS:")[1].split()[0]) // 1024)
                own = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                mine = int(own.split("VmRSS:")[1].split()[0]) // 1024
                ticks = pathlib.Path(f"/proc/{broker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
                cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
            except (FileNotFoundError, IndexError):
                pass
            time.sleep(0.2)
        told = json.loads(process.stdout.read().splitlines()[-1])
        print(f"fleet, {boards} boards at 5 events a minute: {told['acknowledged']} of {told['made']} in {told['elapsed_s']:.0f} s, p99 {told['acknowledged_after_ms']['p99']:.0f} ms, broker {peak} MiB and {cpu:.1f} s CPU so far, the boards {mine} MiB")
    broker.kill()


def bytes_written(folder):
    """On an ext4 of its own: what reaches the device, the file system's journal included."""
    image, mount = folder / "disk.img", folder / "disk"
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    device = subprocess.run(["findmnt", "-no", "SOURCE", mount], capture_output=True, text=True, check=True).stdout.strip()
    sectors = lambda: int(pathlib.Path(f"/sys/block/{pathlib.Path(device).name}/stat").read_text().split()[6])
    try:
        for durability, pace, events in (("grouped", 10, 10000), ("grouped", 1, 200), ("strict", 10, 1000), ("light", 10, 1000)):
            broker_folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
            broker = Mosquitto(broker_folder, "")
            subprocess.run(["sync", "-f", mount], check=True)
            before = sectors()
            told = outcome(simulate([broker.port], mount / f"{durability}-{pace}", "--rate", str(pace), "--events", str(events), "--set", f"outbox.durability={durability}"))
            subprocess.run(["sync", "-f", mount], check=True)
            written = (sectors() - before) * 512
            print(f"bytes, {durability}, {pace} events a second: {written / events:.0f} a durable event reach the device, so {written / events * 1e4 / 1e6:.0f} MB for 10,000; camfire counts {told['disk_bytes'] / events:.0f}", flush=True)
            broker.kill()
    finally:
        subprocess.run(["umount", mount], check=True)


def main():
    all_of = {"kills": kills, "outage": outage, "rate": rate, "latency": latency, "cluster": cluster, "fleet": fleet, "bytes": bytes_written}
    for what in sys.argv[1:] or ["kills", "outage", "rate", "latency", "cluster", "fleet"]:
        with tempfile.TemporaryDirectory(dir=os.environ.get("SCRATCH")) as folder:
            all_of[what](pathlib.Path(folder))
            sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
