#!/usr/bin/python3
"""An RTSP camera for the soak test: sends the video of a recording again and again, at rtsp://127.0.0.1:PORT/cam.

    benches/soak/cameras.py PORT RECORDING.mp4 [FRAMES]

The frames are sent as they are in the recording, which must be H.264 that begins with a keyframe. With FRAMES, the
stream ends after that many frames, and the next client gets a new one. Requires the Debian packages python3-gi and
gir1.2-gst-rtsp-server-1.0, therefore Debian's Python.
"""

import itertools
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: E402,F401 (the versions come first)

CAPS = "video/x-h264,stream-format=byte-stream,alignment=au"


def frames_of(recording):
    """The encoded frames of a recording."""
    pipeline = Gst.parse_launch(
        f'filesrc location="{recording}" ! qtdemux ! h264parse config-interval=-1 ! {CAPS} ! appsink name=out sync=false'
    )
    pipeline.set_state(Gst.State.PLAYING)
    out, frames = pipeline.get_by_name("out"), []
    while sample := out.pull_sample():
        buffer = sample.get_buffer()
        frames.append((buffer.extract_dup(0, buffer.get_size()), buffer.duration))
    pipeline.set_state(Gst.State.NULL)
    return frames


class Factory(GstRtspServer.RTSPMediaFactory):
    """Makes one stream for all clients."""

    def __init__(self, frames, limit):
        super().__init__()
        self.frames, self.limit = frames, limit
        self.set_launch(
            f"( appsrc name=source format=time caps={CAPS} ! h264parse ! rtph264pay config-interval=-1 name=pay0 pt=96 )"
        )
        self.set_shared(True)

    def do_configure(self, media):
        source = media.get_element().get_by_name_recurse_up("source")
        frames = itertools.islice(itertools.cycle(self.frames), self.limit)
        pts_ns = 0

        def push(source, _bytes):
            nonlocal pts_ns
            data, duration_ns = next(frames, (None, 0))
            if data is None:
                source.emit("end-of-stream")
                return
            buffer = Gst.Buffer.new_wrapped(data)
            buffer.pts = buffer.dts = pts_ns
            buffer.duration = duration_ns
            pts_ns += duration_ns
            source.emit("push-buffer", buffer)

        source.connect("need-data", push)


Gst.init(None)
port, recording, *limit = sys.argv[1:]
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
server.get_mount_points().add_factory("/cam", Factory(frames_of(recording), int(limit[0]) if limit else None))
server.attach(None)
GLib.MainLoop().run()
