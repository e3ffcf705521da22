"""A mosquitto broker that can be killed, and a subscriber that checks the sequence of the messages.

Shared by the measurements of delivery and the soak test. Requires mosquitto and paho-mqtt.
"""

import collections
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import zlib

import paho.mqtt.client as mqtt

SAVE_EVERY_CHANGE = "persistence true\npersistence_location {dir}/\nautosave_interval 1\nautosave_on_changes true\n"
DEBIAN_DEFAULT = "persistence true\npersistence_location {dir}/\n"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(what, condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"timed out after {seconds} s waiting for {what}")
        time.sleep(0.02)


def is_listening(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Mosquitto:
    """A mosquitto broker that can be killed and restarted."""

    def __init__(self, folder, lines):
        self.port = free_port()
        self.config = pathlib.Path(folder) / "mosquitto.conf"
        # No queue limits, so that a slow subscriber loses no messages.
        limits = "max_queued_messages 0\nmax_inflight_messages 0\n"
        self.config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n{limits}" + lines.format(dir=folder))
        self.start()

    def start(self):
        program = "/usr/sbin/mosquitto" if os.path.exists("/usr/sbin/mosquitto") else "mosquitto"
        self.process = subprocess.Popen([program, "-c", self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait("mosquitto", lambda: is_listening(self.port))

    def kill(self):
        self.process.kill()
        self.process.wait()


class Subscriber:
    """An MQTT subscriber with a persistent session that records every message and checks its order."""

    def __init__(self, ports, name="subscriber"):
        self.ports, self.attempt = ports, 0
        self.known = collections.defaultdict(dict)
        self.last = collections.defaultdict(int)
        self.repeats, self.faults, self.gaps = 0, [], []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        # A session that the broker has kept still has its subscription.
        self.client.on_connect = lambda client, _data, flags, *_: flags.session_present or client.subscribe("#", qos=1)
        self.client.on_message = lambda _client, _data, message: self.accept(message)
        self.client.on_disconnect = lambda *_: self.next_broker()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", ports[0], keepalive=5)
        self.client.loop_start()
        wait("the subscriber", self.client.is_connected)

    def next_broker(self):
        self.attempt += 1
        self.client._host, self.client._port = "127.0.0.1", self.ports[self.attempt % len(self.ports)]

    def accept(self, message):
        try:
            payload = json.loads(message.payload)
        except ValueError:
            return
        if message.topic.endswith("/gap"):
            self.gaps.append(payload)
            return
        # Live events repeat the durable ones.
        if not isinstance(payload, dict) or "seq" not in payload or message.topic.endswith("/live"):
            return
        source = (payload["node"], payload["camera"], payload["stream"])
        seq = payload["seq"]
        if seq in self.known[source]:
            self.repeats += 1
            if self.known[source][seq] != zlib.crc32(message.payload):
                self.faults.append(f"{source} {seq} repeated with different content")
            return
        if seq < self.last[source]:
            self.faults.append(f"{source} {seq} after {self.last[source]}")
        self.last[source] = max(seq, self.last[source])
        self.known[source][seq] = zlib.crc32(message.payload)

    def count(self):
        return sum(map(len, self.known.values()))

    def missing(self):
        return sum(self.last[source] - len(known) for source, known in self.known.items())

    def summary(self):
        reported = sum(gap["count"] for gap in self.gaps)
        return (
            f"{self.count()} received, {self.missing()} missing ({reported} reported as gaps), "
            f"{self.repeats} repeats, {len(self.faults)} faults {self.faults[:3]}"
        )
