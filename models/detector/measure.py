#!/usr/bin/env python3
"""Measures the detector beside YOLOX-nano on the held-out test pictures, and the time of both.

    python models/detector/measure.py WORK yolox_nano.onnx [--models models/detector] [--split test] [--time]

AP50: average precision by all points at an overlap of 0.5, for each class and source of which people boxed all
objects. YOLOX-nano runs in float at 416 x 416 (its own preprocessing); the detector at 320 x 320 in int8, and in
float and int8 with the input in which the picture is larger: 320 x 320, or 448 x 256 for wide ones. The COCO classes
of YOLOX-nano are joined as in teacher.py and suppressed again within each class.
"""

import argparse
import pathlib
import sys
import time

import cv2
import numpy as np
import onnxruntime
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from detector import ap, data, net, quantize, teacher  # noqa: E402
from everyday.teacher import grid  # noqa: E402

# Where people boxed (nearly) all objects of a class.
MEASURED = (
    ("person", ("highway", "icctv", "coco", "pedestrians")),
    ("vehicle", ("highway", "roadcam", "coco", "vehicles", "aerial")),
    ("two-wheeler", ("highway", "coco", "vehicles")),
    ("animal", ("coco",)),
)
LARGE = 32
SQUARE, WIDE = (320, 320), (256, 448)


def input_for(rgb):
    """Height and width of the input in which a picture is larger."""
    return max(SQUARE, WIDE, key=lambda size: min(size[0] / rgb.shape[0], size[1] / rgb.shape[1]))


def our_detections(run, picture, size):
    """Detections of one picture in its own pixels. `run`: float_network or int8_network. `size`: (height, width)."""
    rgb, ratio = data.fitted(picture.rgb, size[1], size[0])
    logits, logarithms = run(rgb)
    cells = torch.from_numpy(net.anchors(*size))
    out = ap.found(logits, net.decode(torch.from_numpy(logarithms), cells).numpy())
    out[:, :4] /= ratio
    return out


def float_network(kernels):
    """Returns a function from a picture H x W x 3 to (logits, logarithms), by the float network."""

    def call(rgb):
        tensors = {"input": rgb[None].astype(np.float32)}
        for op in net.operators():
            inputs = [tensors[source] for source in net.sources(op)]
            is_conv = isinstance(op, net.Conv)
            tensors[op.name] = quantize.convolve_float(op, *kernels[op.name], *inputs) if is_conv else quantize.moved(op, inputs)
        return joined({name: tensors[name][0] for name in net.OUTPUTS})

    return call


def int8_network(folder):
    """The same by LiteRT, with the file for the picture's size."""
    runs, scales = {}, {}
    for name, size in quantize.FILES.items():
        content = (folder / name).read_bytes()
        runs[size], scales[size] = quantize.interpreter(content), quantize.output_quantization(content)

    def call(rgb):
        maps, its = runs[rgb.shape[:2]](rgb), scales[rgb.shape[:2]]
        return joined({name: (m.astype(np.float32) - its[name][1]) * its[name][0] for name, m in maps.items()})

    return call


def joined(maps):
    """(logits K x 4, logarithms K x 4) of maps H x W x 4 by output name."""
    parts = [np.concatenate([maps[f"{kind}{s}"].reshape(-1, 4) for s in net.STRIDES]) for kind in ("class", "box")]
    return parts[0], parts[1].clip(net.LEAST_LOG, net.MOST_LOG)


def yolox_rows(session, rgb):
    """The scores k x 4 (classes of ours) and boxes k x 4 in pixels of a picture, by YOLOX-nano."""
    (spec,) = session.get_inputs()
    size = spec.shape[2]
    cells, strides = grid(size)
    ratio = size / max(rgb.shape[:2])
    rows = session.run(None, {spec.name: yolox_input(rgb, size)})[0][0]
    scores = rows[:, 4:5] * rows[:, 5:]
    centres, sides = (rows[:, :2] + cells) * strides, np.exp(rows[:, 2:4]) * strides
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], 1) / ratio
    return np.stack([scores[:, members].max(axis=1) for members in teacher.MEMBERS], 1), boxes


def yolox_input(rgb, size):
    """A picture as teacher.detect puts it."""
    ratio = size / max(rgb.shape[:2])
    scaled = cv2.resize(rgb[..., ::-1], None, fx=ratio, fy=ratio)[:size, :size]
    out = np.full((size, size, 3), data.FILL, np.float32)
    out[: scaled.shape[0], : scaled.shape[1]] = scaled
    return np.ascontiguousarray(out.transpose(2, 0, 1)[None])


def yolox_detections(session, rgb):
    """Detections of one picture. The logarithm undoes the logistic function of ap.found."""
    scores, boxes = yolox_rows(session, rgb)
    scores = scores.clip(1e-6, 1 - 1e-6)
    return ap.found(np.log(scores / (1 - scores)), boxes)


def of_class(pictures, detections, kind, large=False):
    """Detections n x 5 and truths m x 4 of a class for each picture. `large`: without objects smaller than LARGE."""
    its, truths = [], []
    for picture, found in zip(pictures, detections):
        truth = picture.boxes[(picture.classes == kind) & (picture.scores == 1)]
        found = found[found[:, 5] == kind][:, :5]
        if large:
            small = np.maximum(truth[:, 2] - truth[:, 0], truth[:, 3] - truth[:, 1]) < LARGE
            if small.any() and len(found):
                found = found[ap.iou(found, truth[small]).max(1) < 0.5]
            found = found[np.maximum(found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]) >= 0.75 * LARGE]
            truth = truth[~small]
        its.append(found)
        truths.append(truth)
    return its, truths


def scored(pictures, detections, kind, large=False):
    """AP, recall and number of objects of a class."""
    return ap.average_precision(*of_class(pictures, detections, kind, large))


def thresholds(validation, test):
    """Prints the scores with the best F1 on validation pictures, and what they reach on the test.

    validation, test: (pictures, detections), of the sources trained on.
    """
    print("| class | threshold with the best F1 on validation | precision, test | recall, test |")
    print("| --- | --- | --- | --- |")
    for name, sources in MEASURED:
        kind = net.CLASSES.index(name)
        of_both = []
        for pictures, detections in (validation, test):
            chosen = [i for i, p in enumerate(pictures) if p.source in sources and p.source in data.SOURCES]
            of_both.append(of_class([pictures[i] for i in chosen], [detections[i] for i in chosen], kind))
        least = ap.threshold(*of_both[0])
        scores, hits, total = ap.ranked(*of_both[1])
        right, count = hits[scores >= least].sum(), (scores >= least).sum()
        print(f"| {name} | {least:.2f} | {right / max(1, count):.3f} | {right / max(1, total):.3f} |")


def table(pictures, results):
    """Prints AP50 for each class and source. `results`: name -> detections for each picture."""
    print("| class | source | objects | " + " | ".join(results) + " | objects from 32 pixels | " + " | ".join(results) + " |")
    print("| --- |" + " --- |" * (2 * len(results) + 3))
    for name, sources in MEASURED:
        clean = tuple(source for source in sources if source in data.SOURCES)
        rows = [(source, (source,)) for source in sources] + [("sources trained on", clean), ("all sources", sources)]
        for title, members in rows:
            chosen = [i for i, p in enumerate(pictures) if p.source in members]
            cells = [name, title]
            for large in (False, True):
                values = [
                    scored([pictures[i] for i in chosen], [its[i] for i in chosen], net.CLASSES.index(name), large)
                    for its in results.values()
                ]
                cells += [str(values[0][2]), *(f"{value:.3f}" for value, _, _ in values)]
            print("| " + " | ".join(cells) + " |", flush=True)


def times(calls, rounds=5, runs=12):
    """Returns the best time in milliseconds of each call, in alternating rounds."""
    best = dict.fromkeys(calls, np.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(runs):
                begun = time.perf_counter()
                call()
                best[name] = min(best[name], (time.perf_counter() - begun) * 1e3)
    return best


def openvino_call(model):
    """Returns a function that runs an ONNX file in OpenVINO on one thread."""
    import openvino

    config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    return lambda x: request.infer([x])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path, help="folder of data.py")
    parser.add_argument("yolox", help="yolox_nano.onnx")
    parser.add_argument("--models", type=pathlib.Path, default=quantize.HERE)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--time", action="store_true", help="measure the time only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(arguments.yolox, options)
    pictures = data.load(arguments.work, arguments.split)

    if arguments.time:
        runs = {}
        for name, (height, width) in quantize.FILES.items():
            run, rgb = quantize.interpreter((arguments.models / name).read_bytes()), data.fitted(pictures[0].rgb, width, height)[0]
            runs[f"{name}, LiteRT"] = lambda run=run, rgb=rgb: run(rgb)
        x, run = yolox_input(pictures[0].rgb, 416), openvino_call(arguments.yolox)
        runs["YOLOX-nano, float, 416 x 416, ONNX Runtime"] = lambda: session.run(None, {session.get_inputs()[0].name: x})
        runs["YOLOX-nano, float, 416 x 416, OpenVINO"] = lambda: run(x)
        for name, best in times(runs).items():
            print(f"{name}: {best:.1f} ms")
        return

    measured = {source for _, sources in MEASURED for source in sources}
    pictures = [p for p in pictures if p.source in measured]
    in_float = float_network(quantize.saved_kernels(arguments.models / "detector_float.safetensors"))
    in_int8 = int8_network(arguments.models)
    results = {
        "YOLOX-nano": [yolox_detections(session, p.rgb) for p in pictures],
        "int8, 320 x 320": [our_detections(in_int8, p, SQUARE) for p in pictures],
        "float": [our_detections(in_float, p, input_for(p.rgb)) for p in pictures],
        "int8": [our_detections(in_int8, p, input_for(p.rgb)) for p in pictures],
    }
    print(f"{len(pictures)} pictures of the {arguments.split} split")
    table(pictures, results)
    if arguments.split == "test":
        chosen = [p for p in data.load(arguments.work, "validation") if p.source in data.SOURCES]
        its = [our_detections(in_int8, p, input_for(p.rgb)) for p in chosen]
        thresholds((chosen, its), (pictures, results["int8"]))


if __name__ == "__main__":
    main()
