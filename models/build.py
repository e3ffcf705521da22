#!/usr/bin/env python3
"""Builds the shipped model from the published weights: `make model PHOTOS=folder`, or

    python models/build.py --photos DIR [--out models] [--golden engine/tests/data]
    python models/build.py --photos DIR --judge [--folds 5]

The same photos give the same bytes. --judge builds nothing: it calibrates on all folds but one and compares with the
float network on that one, in turn, so that every photo is judged by a model that has not seen it.
"""

import argparse
import hashlib
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from recipe import calibrate, golden, graph, network, photos, quantized, weights  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


def in_batches(run, rgb):
    """`run` on ten photos at a time."""
    return np.concatenate([run(rgb[i : i + calibrate.BATCH]) for i in range(0, len(rgb), calibrate.BATCH)])


def float_scores(kernels, rgb):
    """The float network's scores."""
    return in_batches(lambda batch: network.scores(network.run_float(kernels, batch)), rgb)


def int8_scores(layers, scales, rgb):
    """The int8 network's scores, with average and softmax in f32."""
    return in_batches(lambda batch: network.scores(quantized.run(layers, scales, batch) * scales["conv10"]), rgb)


def judge(name, classes, found, expected):
    """One line: accuracy of `found` and its agreement with `expected`."""
    best = np.argsort(-found, axis=1, kind="stable")
    top1, top5 = (best[:, 0] == classes).mean(), (best[:, :5] == classes[:, None]).any(axis=1).mean()
    agreement = (best[:, 0] == expected.argmax(axis=1)).mean()
    divergence = (expected * (np.log(expected + 1e-12) - np.log(found + 1e-12))).sum(axis=1).mean()
    print(f"{name}: top-1 {top1:.1%}  top-5 {top5:.1%}  agrees with float {agreement:.1%}  KL {divergence:.5f}")


def cross_validate(kernels, classes, rgb, folds):
    """Every photo judged by a model that was calibrated without it."""
    expected, found = float_scores(kernels, rgb), np.zeros((len(rgb), network.CLASSES), np.float32)
    for fold in range(folds):
        out = np.arange(len(rgb)) % folds == fold
        layers, scales = calibrate.calibrate(kernels, rgb[~out])
        found[out] = int8_scores(layers, scales, rgb[out])
        judge(f"int8, fold {fold + 1} of {folds}", classes[out], found[out], expected[out])
    judge("float", classes, expected, expected)
    judge("int8, held out", classes, found, expected)


def check_against_litert(model, layers, scales, rgb):
    """The numpy network and LiteRT must agree on every step of the map."""
    for picture in rgb:
        theirs = golden.run_litert(model, (picture.astype(np.int16) - 128).astype(np.int8)[None])
        ours = quantized.run(layers, scales, picture[None]) - 128
        if not np.array_equal(theirs, ours):
            raise SystemExit(f"LiteRT differs in {np.count_nonzero(theirs != ours)} steps of a map")
    print(f"LiteRT gives the same map, bit for bit, on {len(rgb)} photos")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="folder of ImageNet photos named NNNN_name.jpg")
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--golden", type=pathlib.Path, help="also write the engine's test data here")
    parser.add_argument("--judge", action="store_true", help="cross-validate instead of building")
    parser.add_argument("--folds", type=int, default=5)
    arguments = parser.parse_args()

    kernels = weights.load()
    kernels["conv1"] = weights.fold_input(*kernels["conv1"])
    classes, rgb, _ = photos.load(arguments.photos)
    if arguments.judge:
        cross_validate(kernels, classes, rgb, arguments.folds)
        return
    layers, scales = calibrate.calibrate(kernels, rgb)
    model = graph.squeezenet(layers, scales).to_bytes()
    check_against_litert(model, layers, scales, rgb[:: max(1, len(rgb) // 10)])
    file = arguments.out / "squeezenet_v1.1_int8.tflite"
    file.write_bytes(model)
    sha256 = hashlib.sha256(model).hexdigest()
    print(f"{file}: {len(model)} bytes, sha256 {sha256}")
    print(f"{weights.PARAMETERS} parameters, {network.multiply_adds()} multiply-adds")
    expected = float_scores(kernels, rgb)
    judge("float", classes, expected, expected)
    judge("int8, on the photos it was calibrated on", classes, int8_scores(layers, scales, rgb), expected)
    if arguments.golden:
        labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
        golden.write_photos(arguments.golden / "golden", model, scales["conv10"], labels, sha256)
        golden.write_graphs(arguments.golden / "graphs")


main()
