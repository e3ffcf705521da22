"""What stands around the machine, on this host: an RTSP camera, and a subscriber that records what is published."""

import json
import pathlib
import socket
import subprocess
import threading
import time

CAMERA = pathlib.Path(__file__).resolve().parents[2] / "benches/rtsp_camera.py"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class RtspCamera:
    """An RTSP server with a ball that moves, in H.264."""

    def __init__(self, frames_per_second):
        self.port = free_port()
        # Debian's Python: another one has no GObject.
        command = ["/usr/bin/python3", CAMERA, *map(str, (self.port, 320, 240, frames_per_second))]
        self.process = subprocess.Popen(command)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Message:
    """A message as it arrived, by the monotonic clock of this host."""

    def __init__(self, topic, payload):
        self.topic, self.payload, self.arrived_s = topic, payload, time.monotonic()
        try:
            self.json = json.loads(payload)
        except ValueError:
            self.json = None


class Subscriber:
    """Records every message of the node. Repeats of a durable message are left out: they share its uid."""

    def __init__(self, port):
        self.lock, self.messages, self.uids, self.is_ended = threading.Lock(), [], set(), False
        self.port, self.process = port, None
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        # mosquitto_sub reconnects by itself, but gives up if the first connection fails. So it is started until
        # the machine and its broker run.
        while not self.is_ended:
            # Images are not asked for: their topics are left out.
            topics = [word for end in ("status", "stats", "answer", "gap", "+/status", "+/events", "+/history", "+/scene",
                                       "+/answer", "+/gap", "+/detections") for word in ("-t", f"camfire/porch/{end}")]
            self.process = subprocess.Popen(
                ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), "-i", "outside", "-c", "-q", "1", "-k", "10",
                 "-F", "%t %p", *topics], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace")
            for line in self.process.stdout:
                topic, _, payload = line.rstrip("\n").partition(" ")
                self.add(Message(topic, payload))
            self.process.wait()
            time.sleep(0.5)

    def add(self, message):
        uid = message.json.get("uid") if isinstance(message.json, dict) else None
        with self.lock:
            if uid is None or uid not in self.uids:
                self.messages.append(message)
                self.uids.add(uid)

    def all(self):
        with self.lock:
            return list(self.messages)

    def count(self):
        with self.lock:
            return len(self.messages)

    def since(self, start, camera, kind):
        """The JSON of a camera's messages of one kind, from the message with number `start` on."""
        topic = f"camfire/porch/{camera}/{kind}"
        return [message.json for message in self.all()[start:] if message.topic == topic]

    def durable(self, start, camera):
        """The durable messages of a camera in the order of arrival, from the message with number `start` on."""
        return [message for message in self.all()[start:]
                if isinstance(message.json, dict) and message.json.get("camera") == camera and "seq" in message.json]

    def stop(self):
        self.is_ended = True
        if self.process:
            self.process.kill()


def publish(port, topic, payload):
    subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", topic, "-m", payload], check=True)
