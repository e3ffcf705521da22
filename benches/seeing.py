#!/usr/bin/env python3
"""Measures what docs/seeing.md tells: how well things are seen, and what seeing costs.

    make measure-seeing                                    # scenes of build/scenes and the demo
    make measure-seeing CLIPS=folder                       # also the real clips of benches/seeing, looked for there
    make measure-seeing PEER="python script.py" CLIPS=...  # also the CPU of another program beside camfire's

PEER is a command that gets a clip and a model behind it and prints JSON with cpu_ms_per_analysed_frame last; the model
ends in a map, whose mean over the places it has to take. What is missing is named and left out.
"""

import json
import os
import pathlib
import resource
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CAMFIRE = ROOT / "target/release/camfire"
MODEL = ROOT / "models/squeezenet_v1.1_int8.tflite"


def analyze(clip, *more):
    """Lines of `camfire analyze --json`, and the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([CAMFIRE, "analyze", clip, "--json", *more], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [json.loads(line) for line in done.stdout.splitlines()], cpu_s


def row(name, clip, truth):
    score = analyze(clip, "--truth", truth)[0][-1]["score"]
    start = score["start_delay_frames"]
    numbers = [f"{score[key]:.3f}" for key in ("recall", "precision", "mean_iou", "label_accuracy")]
    there, told, rightly = score["scene_changes"]
    cells = [name, score["things"], score["events"], *numbers, score["switches"], f"{start[1]:.0f}" if start else "", f"{rightly}/{there}/{told}"]
    print("| " + " | ".join(str(cell) for cell in cells) + " |")
    for fault in score["faults"]:
        print(f"    {fault}", file=sys.stderr)


def scores(clips):
    print("| clip | things | events | recall | precision | mean IoU | label | switches | start, frames at most | changes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    row("demo", ROOT / "assets/demo.mp4", ROOT / "assets/demo.truth.json")
    scenes = sorted((ROOT / "build/scenes").glob("**/*.mp4"))
    if not scenes:
        print("no scenes: make scenes", file=sys.stderr)
    for scene in scenes:
        row(str(scene.relative_to(ROOT / "build/scenes").with_suffix("")), scene, scene.with_suffix(".truth.json"))
    for truth in sorted((ROOT / "benches/seeing").glob("*.truth.json")):
        clip = clips / json.loads(truth.read_text())["clip"] if clips else None
        if clip is None or not clip.exists():
            print(f"no clip for {truth.name}: CLIPS=folder", file=sys.stderr)
            continue
        row(truth.name.removesuffix(".truth.json"), clip, truth)


def per_frame_ms(clip, *more):
    """CPU a frame of the clip, without what starting costs, and how often the network looked at one."""
    set_all = [word for setting in more for word in ("--set", setting)]
    start_s = min(analyze(ROOT / "tests/data/scenes/empty.mp4", "--set", "cameras.clip.rate_fps=0.01", "--set", "cameras.clip.decode=keyframes")[1] for _ in range(3))
    runs = [analyze(clip, "--detections", *set_all) for _ in range(3)]
    lines, cpu_s = min(runs, key=lambda run: run[1])
    frames = [line["payload"] for line in lines if line.get("topic", "").endswith("/detections")]
    return (cpu_s - start_s) * 1e3, len(frames), sum(frame["looks"] for frame in frames)


def cost(clips):
    """A still scene: with everything on, against a look at each frame."""
    still = ROOT / "build/still.mp4"
    if not still.exists():
        subprocess.run(
            ["gst-launch-1.0", "-q", "filesrc", f"location={ROOT / 'assets/demo.mp4'}", "!", "decodebin", "!", "videoconvert", "!",
             "imagefreeze", "num-buffers=900", "!", "video/x-raw,framerate=15/1", "!", "x264enc", "key-int-max=15", "bframes=0", "!",
             "mp4mux", "!", "filesink", f"location={still}"], check=True)
    for name, settings in (
        ("as it comes", ()),
        ("everything decoded", ("cameras.clip.decode=all",)),
        ("a look at every frame", ("cameras.clip.decode=all", "cameras.clip.rate_fps=15", "cameras.clip.regions.all.every=10ms")),
    ):
        ms, frames, looks = per_frame_ms(still, *settings)
        print(f"still scene, {name}: {ms / 900:.3f} ms a frame of the clip, {frames} analysed, {looks} looks")
    peer = os.environ.get("PEER")
    for clip in sorted(clips.glob("*.mp4")) if clips else []:
        ms, frames, looks = per_frame_ms(clip, "cameras.clip.rate_fps=1000")
        print(f"{clip.name}: {ms / frames:.2f} ms an analysed frame, {frames} of them, {looks} looks")
        if peer:
            told = subprocess.run([*shlex.split(peer), clip, MODEL], capture_output=True, text=True, check=True).stdout
            print(f"    the peer: {json.loads(told.splitlines()[-1])['cpu_ms_per_analysed_frame']:.2f} ms")


def main():
    clips = os.environ.get("CLIPS")
    clips = pathlib.Path(clips) if clips else None
    for what in sys.argv[1:] or ["scores", "cost"]:
        {"scores": scores, "cost": cost}[what](clips)


if __name__ == "__main__":
    main()
