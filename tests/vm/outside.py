"""What stands around the machine, on this host: an RTSP camera, and a subscriber that records what is published."""

import json
import socket
import subprocess
import threading
import time

RTSP_SERVER = """
import gi, sys
gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')
from gi.repository import Gst, GstRtspServer, GLib
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address('127.0.0.1'); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch('( ' + sys.argv[2] + ' )'); factory.set_shared(True)
server.get_mount_points().add_factory('/cam', factory)
server.attach(None); GLib.MainLoop().run()
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class RtspCamera:
    """An RTSP server with a ball that moves, in H.264."""

    def __init__(self, frames_per_second):
        self.port = free_port()
        launch = (f"videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,"
                  f"framerate={frames_per_second}/1 ! x264enc tune=zerolatency speed-preset=ultrafast "
                  f"key-int-max={frames_per_second} ! rtph264pay config-interval=-1 name=pay0 pt=96")
        # Debian's Python: another one has no GObject.
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", RTSP_SERVER, str(self.port), launch])

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
