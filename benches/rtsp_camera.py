#!/usr/bin/python3
"""An RTSP camera: a moving ball in H.264 with a keyframe a second, at rtsp://127.0.0.1:PORT/cam.

    benches/rtsp_camera.py PORT WIDTH HEIGHT FRAMES_PER_SECOND

Requires the Debian packages python3-gi and gir1.2-gst-rtsp-server-1.0, therefore Debian's Python.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 (the versions come first)

Gst.init(None)
port, width, height, frames_per_second = sys.argv[1:]
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={width},height={height},"
    f"framerate={frames_per_second}/1 ! x264enc tune=zerolatency speed-preset=ultrafast "
    f"key-int-max={frames_per_second} ! rtph264pay config-interval=-1 name=pay0 pt=96 )"
)
factory.set_shared(True)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
GLib.MainLoop().run()
