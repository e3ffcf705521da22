#!/usr/bin/env python3
"""Builds the shipped model from the published weights. `make model PHOTOS=folder` runs it; by hand:

    python models/build.py --photos DIR [--out models] [--golden engine/tests/data]
    python models/build.py --photos DIR --evaluate [--folds 5]

The build is reproducible: the same photos give the same bytes. --evaluate writes no model. It
cross-validates: each fold is scored with a model calibrated on the other folds and compared with the float
network, so every photo is scored by a model that was not calibrated on it.
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
    """Runs `run` on batches of photos and concatenates the results."""
    return np.concatenate([run(rgb[i : i + calibrate.BATCH]) for i in range(0, len(rgb), calibrate.BATCH)])


def float_scores(kernels, rgb):
    """Returns the class scores of the float network."""
    return in_batches(lambda batch: network.scores(network.run_float(kernels, batch)), rgb)


def int8_scores(layers, scales, rgb):
    """Returns the class scores of the int8 network, with average and softmax in f32."""
    return in_batches(lambda batch: network.scores(quantized.run(layers, scales, batch) * scales["conv10"]), rgb)


def report_accuracy(name, classes, actual, expected):
    """Prints one line: accuracy of the scores `actual` and their agreement with the scores `expected`."""
    best = np.argsort(-actual, axis=1, kind="stable")
    top1, top5 = (best[:, 0] == classes).mean(), (best[:, :5] == classes[:, None]).any(axis=1).mean()
    agreement = (best[:, 0] == expected.argmax(axis=1)).mean()
    divergence = (expected * (np.log(expected + 1e-12) - np.log(actual + 1e-12))).sum(axis=1).mean()
    print(f"{name}: top-1 {top1:.1%}  top-5 {top5:.1%}  agrees with float {agreement:.1%}  KL {divergence:.5f}")


def cross_validate(kernels, classes, rgb, folds):
    """Scores each fold with a model calibrated on the other folds."""
    expected, actual = float_scores(kernels, rgb), np.zeros((len(rgb), network.CLASSES), np.float32)
    for fold in range(folds):
        held_out = np.arange(len(rgb)) % folds == fold
        layers, scales = calibrate.calibrate(kernels, rgb[~held_out])
        actual[held_out] = int8_scores(layers, scales, rgb[held_out])
        report_accuracy(f"int8, fold {fold + 1} of {folds}", classes[held_out], actual[held_out], expected[held_out])
    report_accuracy("float", classes, expected, expected)
    report_accuracy("int8, held out", classes, actual, expected)


def check_against_litert(model, layers, scales, rgb):
    """Exits with an error unless the numpy network and LiteRT produce identical output maps."""
    for image in rgb:
        litert_map = golden.run_litert(model, (image.astype(np.int16) - 128).astype(np.int8)[None])
        numpy_map = quantized.run(layers, scales, image[None]) - 128
        if not np.array_equal(litert_map, numpy_map):
            raise SystemExit(f"LiteRT differs in {np.count_nonzero(litert_map != numpy_map)} values of a map")
    print(f"LiteRT produces bit-identical maps on {len(rgb)} photos")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="folder of ImageNet photos named NNNN_name.jpg (NNNN: the class)")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder for the model file")
    parser.add_argument("--golden", type=pathlib.Path, help="also write the engine's test data to this folder")
    parser.add_argument("--evaluate", action="store_true", help="cross-validate instead of building")
    parser.add_argument("--folds", type=int, default=5, help="number of folds for --evaluate")
    arguments = parser.parse_args()

    kernels = weights.load()
    kernels["conv1"] = weights.fold_input(*kernels["conv1"])
    classes, rgb, _ = photos.load(arguments.photos)
    if arguments.evaluate:
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
    report_accuracy("float", classes, expected, expected)
    report_accuracy("int8, on its calibration photos", classes, int8_scores(layers, scales, rgb), expected)
    if arguments.golden:
        labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
        golden.write_photos(arguments.golden / "golden", model, scales["conv10"], labels, sha256)
        golden.write_graphs(arguments.golden / "graphs")


main()
