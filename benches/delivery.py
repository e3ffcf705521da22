#!/usr/bin/env python3
"""Measures delivery for docs/delivery.md and docs/fleet.md: loss, throughput, latency and disk writes.

    make measure-delivery                      # all but `bytes`, which takes 15 minutes
    make measure-delivery WHAT="bytes fleet"   # any of: kills outage rate latency cluster fleet bytes

Requires mosquitto and, for `bytes`, permission to mount a file system. A subscriber with a persistent session
checks the sequence number (`seq`), stream and uid of every message.
"""

import asyncio
import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import nats
import nats.errors
import paho.mqtt.client as mqtt

from broker import DEBIAN_DEFAULT, SAVE_EVERY_CHANGE, Mosquitto, Subscriber, free_port, is_listening, wait

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Log messages of camfire that this script matches.
CONNECTED, LOST = "Broker is connected", "Broker is away"
CAMFIRE = pathlib.Path(os.environ.get("CAMFIRE") or ROOT / "target/release/camfire")



class Log:
    """The log lines of a process, with their arrival times."""

    def __init__(self, stream):
        self.lines = []
        threading.Thread(target=lambda: self.lines.extend((time.monotonic(), line) for line in stream), daemon=True).start()

    def after(self, when, *words):
        """Returns the times of the lines since `when` that contain all `words`."""
        return [at for at, line in list(self.lines) if at >= when and all(word in line for word in words)]


def simulate(ports, state, *more, stderr=subprocess.DEVNULL):
    """Starts `camfire simulate` with the brokers on `ports` and its outbox files in the folder `state`."""
    brokers = ["--set", f"mqtt.port={ports[0]}"]
    if ports[1:]:
        brokers += ["--set", "mqtt.fallbacks=" + json.dumps([f"127.0.0.1:{port}" for port in ports[1:]])]
    state_option = ["--state", state] if state else []
    command = [CAMFIRE, "simulate", "--json", "--set", "node.name=device", *brokers, *state_option, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)


def result_of(process):
    """Waits for `camfire simulate` and returns its JSON result."""
    return json.loads(process.communicate()[0].splitlines()[-1])


def kills(folder):
    """The broker and the device are each killed five times under load."""
    for name, lines in (("saving every change", SAVE_EVERY_CHANGE), ("Debian default", DEBIAN_DEFAULT)):
        here = pathlib.Path(tempfile.mkdtemp(dir=folder))
        broker = Mosquitto(here, lines)
        subscriber = Subscriber([broker.port])
        arguments = ["--cameras", "4", "--rate", "400"]
        for _ in range(5):
            before = subscriber.count()
            device = simulate([broker.port], here, *arguments)
            wait("events", lambda: subscriber.count() > before + 1500)
            broker.kill()
            time.sleep(1)
            broker.start()
            wait("events", lambda: subscriber.count() > before + 3800)
            device.kill()
            device.wait()
        result = result_of(simulate([broker.port], here, *arguments, "--events", "1500"))
        wait("the last message", lambda: subscriber.missing() == 0, 30) if lines is SAVE_EVERY_CHANGE else time.sleep(3)
        print(f"kills, mosquitto {name}: {subscriber.summary()}; at the end {result['waiting']} waiting, {result['lost']} lost")
        broker.kill()


def outage(folder):
    """The broker is down for one simulated hour."""
    broker = Mosquitto(folder, SAVE_EVERY_CHANGE)
    subscriber = Subscriber([broker.port])
    broker.kill()
    # One hour at five events per second, accelerated 60 times.
    device = simulate([broker.port], folder, "--cameras", "4", "--rate", "300", "--events", "20000")
    time.sleep(60)
    broker.start()
    began = time.monotonic()
    result = result_of(device)
    wait("the last message", lambda: subscriber.count() >= result["made"], 60)
    print(f"outage of 18000 events, 2000 more during recovery: {subscriber.summary()}; complete {time.monotonic() - began:.1f} s after the broker started")
    broker.kill()


def rate(folder):
    """Maximum rate of durable events, per durability setting."""
    for durability in ("strict", "grouped", "light"):
        here = pathlib.Path(tempfile.mkdtemp(dir=folder))
        broker = Mosquitto(here, "")
        result = result_of(simulate([broker.port], here, "--cameras", "4", "--rate", "4000", "--events", "40000", "--set", f"outbox.durability={durability}"))
        print(f"rate, {durability}: {result['events_per_s']:.0f} durable events per second acknowledged, {result['lost']} lost")
        broker.kill()


def latency(folder):
    """Latency from event to acknowledgement, per durability setting."""
    for durability in ("strict", "grouped", "light"):
        here = pathlib.Path(tempfile.mkdtemp(dir=folder))
        broker = Mosquitto(here, "")
        result = result_of(simulate([broker.port], here, "--cameras", "4", "--rate", "100", "--events", "3000", "--set", f"outbox.durability={durability}"))
        print(f"latency at 100 events per second, {durability}: {json.dumps(result['ack_latency_ms'])} ms from event to acknowledgement")
        broker.kill()


class Cluster:
    """A cluster of three nats-servers with MQTT and JetStream."""

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
        wait("nats-server", lambda: is_listening(self.ports[node]))

    def kill(self, node):
        self.nodes[node].kill()
        self.nodes[node].wait()

    def elected(self, when):
        """Returns when the last MQTT stream elected a leader after `when`, or None if no leader was lost."""
        streams = ("$MQTT_sess'", "$MQTT_msgs'")
        return max((at for log in self.logs for stream in streams for at in log.after(when, "new stream leader", stream)), default=None)

    def stop(self):
        for node in range(3):
            self.kill(node)


class Consumer(threading.Thread):
    """Reads the JetStream stream of NATS' MQTT messages with a durable consumer, as an archive would."""

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
                        payload = json.loads(message.data)
                        source = (payload["node"], payload["camera"], payload["stream"])
                        self.known[source].add(payload["seq"])
                    except (ValueError, TypeError, KeyError):
                        pass
                    await message.ack()
            except (nats.errors.Error, OSError, asyncio.TimeoutError):
                await asyncio.sleep(0.1)

    def count(self):
        return sum(map(len, self.known.values()))


def cluster(folder):
    """The three nodes of a NATS cluster are killed in turn while 50 devices publish."""
    servers = Cluster(folder)
    time.sleep(8)
    # Two subscribers on different nodes: a message that only one of them misses was not lost by the cluster.
    subscribers = [Subscriber(servers.ports, "first"), Subscriber([*servers.ports[1:], servers.ports[0]], "second")]
    consumer = Consumer(servers.clients)
    arguments = ["--boards", "50", "--rate", "150", "--events", "15000", "--patience", "120s", "--set", "log.level=debug"]
    device = simulate(servers.ports, folder, *arguments, stderr=subprocess.PIPE)
    log = Log(device.stderr)
    pauses = []
    for node in range(3):
        time.sleep(12)
        killed = time.monotonic()
        servers.kill(node)
        time.sleep(16)
        back, elected = log.after(killed, CONNECTED), servers.elected(killed)
        election = f"new leaders elected after {elected - killed:.1f} s" if elected else "no leader was lost"
        lost = len(log.after(killed, LOST))
        pauses.append(f"{lost} connections lost, the last one re-established after {max(back, default=killed) - killed:.1f} s ({election})")
        servers.start(node)
        time.sleep(5)
    result = result_of(device)
    end = time.monotonic() + 60
    while min(reader.count() for reader in [*subscribers, consumer]) < result["made"] and time.monotonic() < end:
        time.sleep(0.1)
    print(f"cluster, 50 devices, three nodes killed in turn: {result['made']} created, {result['acknowledged']} acknowledged, {result['connections']} connections")
    for name, subscriber in zip(("first", "second"), subscribers):
        print(f"cluster, {name} session: {subscriber.summary()}")
    print(f"cluster, stream consumer: {consumer.count()} received")
    for node, pause in enumerate(pauses, 1):
        print(f"cluster, node {node} killed: {pause}")
    servers.stop()


def fleet(folder):
    """100, 300 and 1000 devices on one broker."""
    broker = Mosquitto(folder, "")
    for boards in (100, 300, 1000):
        process = simulate([broker.port], None, "--boards", str(boards), "--rate", str(boards / 12), "--events", str(boards * 5))
        peak, cpu = 0, 0
        while process.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{broker.process.pid}/status").read_text()
                peak = max(peak, int(status.split("VmRSS:")[1].split()[0]) // 1024)
                own = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                devices_mib = int(own.split("VmRSS:")[1].split()[0]) // 1024
                ticks = pathlib.Path(f"/proc/{broker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
                cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
            except (FileNotFoundError, IndexError):
                pass
            time.sleep(0.2)
        result = json.loads(process.stdout.read().splitlines()[-1])
        print(
            f"fleet, {boards} devices at 5 events per minute: {result['acknowledged']} of {result['made']} acknowledged in "
            f"{result['elapsed_s']:.0f} s, p99 {result['ack_latency_ms']['p99']:.0f} ms, "
            f"broker {peak} MiB and {cpu:.1f} s CPU since its start, devices {devices_mib} MiB"
        )
    broker.kill()


def bytes_written(folder):
    """Bytes that reach the device per durable event, on a separate ext4, including its journal."""
    image, mount = folder / "disk.img", folder / "disk"
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    device = subprocess.run(["findmnt", "-no", "SOURCE", mount], capture_output=True, text=True, check=True).stdout.strip()
    sectors = lambda: int(pathlib.Path(f"/sys/block/{pathlib.Path(device).name}/stat").read_text().split()[6])
    try:
        for durability, events_per_s, events in (("grouped", 10, 10000), ("grouped", 1, 200), ("strict", 10, 1000), ("light", 10, 1000)):
            broker_folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
            broker = Mosquitto(broker_folder, "")
            subprocess.run(["sync", "-f", mount], check=True)
            before = sectors()
            result = result_of(simulate([broker.port], mount / f"{durability}-{events_per_s}", "--rate", str(events_per_s), "--events", str(events), "--set", f"outbox.durability={durability}"))
            subprocess.run(["sync", "-f", mount], check=True)
            written = (sectors() - before) * 512
            print(
                f"bytes, {durability}, {events_per_s} events per second: {written / events:.0f} bytes per durable event reach the "
                f"device ({written / events * 1e4 / 1e6:.0f} MB per 10,000 events); disk_bytes reports {result['disk_bytes'] / events:.0f}",
                flush=True,
            )
            broker.kill()
    finally:
        subprocess.run(["umount", mount], check=True)


def main():
    measurements = {"kills": kills, "outage": outage, "rate": rate, "latency": latency, "cluster": cluster, "fleet": fleet, "bytes": bytes_written}
    for what in sys.argv[1:] or ["kills", "outage", "rate", "latency", "cluster", "fleet"]:
        with tempfile.TemporaryDirectory(dir=os.environ.get("SCRATCH")) as folder:
            measurements[what](pathlib.Path(folder))
            sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
