#!/usr/bin/env python3
"""Measures the vision pipeline for docs/seeing.md: detection accuracy, CPU cost and inference time.

    make measure-seeing                                    # scenes of build/scenes and the demo
    make measure-seeing CLIPS=folder                       # also the real clips of benches/seeing, if in that folder
    DETECTOR=squeezenet make measure-seeing CLIPS=...      # the same with a detector (engine.detector)
    make measure-seeing PEER="python script.py" CLIPS=...  # also the CPU time of another program

PEER is a command. It is called with a clip and a model as its last arguments and must print, as its last
line, JSON with cpu_ms_per_analysed_frame. The output of the model is a map; the program has to average it
over the positions. Missing clips are reported on stderr and skipped.
"""

import json
import os
import pathlib
import resource
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CAMFIRE = ROOT / "target/release/camfire"
MODEL = ROOT / "models/squeezenet_v1.1_int8.tflite"


# Objects without a label count as well.
EVERYTHING = 'cameras.clip.labels=["any", "unknown"]'


def analyze(clip, *more):
    """Runs `camfire analyze --json`. Returns its output lines and the CPU seconds used."""
    more = ("--set", f"engine.detector={os.environ.get('DETECTOR', 'motion')}", *more)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run([CAMFIRE, "analyze", clip, "--json", *more], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [json.loads(line) for line in process.stdout.splitlines()], cpu_s


def row(name, clip, truth):
    score = analyze(clip, "--truth", truth, "--set", EVERYTHING)[0][-1]["score"]
    start = score["start_delay_frames"]
    numbers = [f"{score[key]:.3f}" for key in ("recall", "precision", "mean_iou", "label_accuracy")]
    expected, reported, correct = score["scene_changes"]
    cells = [name, score["objects"], score["events"], *numbers, score["switches"], f"{start[1]:.0f}" if start else "", f"{correct}/{expected}/{reported}"]
    print("| " + " | ".join(str(cell) for cell in cells) + " |")
    for fault in score["faults"]:
        print(f"    {fault}", file=sys.stderr)


def scores(clips):
    print("| clip | objects | events | recall | precision | mean IoU | label | switches | max start delay, frames | changes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    row("demo", ROOT / "assets/demo.mp4", ROOT / "assets/demo.truth.json")
    scenes = sorted((ROOT / "build/scenes").glob("**/*.mp4"))
    if not scenes:
        print("no scenes in build/scenes: run make scenes", file=sys.stderr)
    for scene in scenes:
        row(str(scene.relative_to(ROOT / "build/scenes").with_suffix("")), scene, scene.with_suffix(".truth.json"))
    for truth in sorted((ROOT / "benches/seeing").glob("*.truth.json")):
        clip = clips / json.loads(truth.read_text())["clip"] if clips else None
        if clip is None or not clip.exists():
            print(f"no clip for {truth.name}: set CLIPS=folder", file=sys.stderr)
            continue
        row(truth.name.removesuffix(".truth.json"), clip, truth)


def per_frame_ms(clip, *more):
    """Returns CPU milliseconds without the start-up cost, the number of analysed frames and of inferences."""
    set_all = [word for setting in more for word in ("--set", setting)]
    start_s = min(analyze(ROOT / "tests/data/scenes/empty.mp4", "--set", "cameras.clip.rate_fps=0.01", "--set", "cameras.clip.decode=keyframes")[1] for _ in range(3))
    runs = [analyze(clip, "--detections", *set_all) for _ in range(3)]
    lines, cpu_s = min(runs, key=lambda run: run[1])
    frames = [line["payload"] for line in lines if line.get("topic", "").endswith("/detections")]
    return (cpu_s - start_s) * 1e3, len(frames), sum(frame["inferences"] for frame in frames)


def cost(clips):
    """CPU cost of a static scene: with the defaults, with full decoding, and with an inference per frame."""
    still = ROOT / "build/still.mp4"
    if not still.exists():
        subprocess.run(
            ["gst-launch-1.0", "-q", "filesrc", f"location={ROOT / 'assets/demo.mp4'}", "!", "decodebin", "!", "videoconvert", "!",
             "imagefreeze", "num-buffers=900", "!", "video/x-raw,framerate=15/1", "!", "x264enc", "key-int-max=15", "bframes=0", "!",
             "mp4mux", "!", "filesink", f"location={still}"], check=True)
    for name, settings in (
        ("defaults", ()),
        ("full decoding", ("cameras.clip.decode=all",)),
        ("an inference per frame", ("cameras.clip.decode=all", "cameras.clip.rate_fps=15", "cameras.clip.regions.all.every=10ms")),
    ):
        ms, frames, inferences = per_frame_ms(still, *settings)
        print(f"static scene, {name}: {ms / 900:.3f} ms per source frame, {frames} analysed, {inferences} inferences")
    peer = os.environ.get("PEER")
    for clip in sorted(clips.glob("*.mp4")) if clips else []:
        ms, frames, inferences = per_frame_ms(clip, "cameras.clip.rate_fps=1000")
        print(f"{clip.name}: {ms / frames:.2f} ms per analysed frame, {frames} analysed, {inferences} inferences")
        if peer:
            output = subprocess.run([*shlex.split(peer), clip, MODEL], capture_output=True, text=True, check=True).stdout
            print(f"    peer: {json.loads(output.splitlines()[-1])['cpu_ms_per_analysed_frame']:.2f} ms")


def inference(_clips):
    """Time of one inference of the everyday network beside that of the network with ImageNet's classes."""
    def median_ms(*more):
        output = subprocess.run([CAMFIRE, "bench", "--json", *more], capture_output=True, text=True, check=True).stdout
        return json.loads(output.splitlines()[-1])["median_ms"]

    # In turn, because other programs may run on the machine.
    pairs = [(median_ms("--everyday"), median_ms()) for _ in range(5)]
    everyday, imagenet = (statistics.median(times) for times in zip(*pairs))
    print(f"one inference: everyday network {everyday:.2f} ms, ImageNet's {imagenet:.2f} ms: {everyday / imagenet:.2f}")


def main():
    clips = os.environ.get("CLIPS")
    clips = pathlib.Path(clips) if clips else None
    for what in sys.argv[1:] or ["scores", "cost", "inference"]:
        {"scores": scores, "cost": cost, "inference": inference}[what](clips)


if __name__ == "__main__":
    main()
