#!/usr/bin/env python3
"""Turns the trained network into int8 by the recipe of the shipped one and compares it with the float network.

    python models/everyday/quantize.py WORK [--out models/everyday]

Reads WORK/checkpoint.pt of train.py (or WORK/everyday_float.safetensors with --float). Writes
everyday_int8.tflite, which ends at the map of fire9, and everyday_float.safetensors: the averaged float
weights in f16, with which others can go on. The averaged weights are those of the last steps, averaged again
with the published ones. Every build checks that LiteRT computes the same maps, bit by bit.
"""

import argparse
import hashlib
import pathlib
import sys

import cv2
import numpy as np
import torch
from safetensors.numpy import load_file, save

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from everyday import crops, measure, net, pictures, prepare  # noqa: E402
from recipe import calibrate, golden, graph, network, quantized  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
LAST = "fire9/concat"
# The share of the trained weights in an average with the published ones, which know more animals.
TRAINED = 0.75
DESCRIPTION = "SqueezeNet v1.1 to fire9, fine-tuned on people, vehicles and animals, int8; camfire models/everyday"


def calibration_crops(work, sources, count, size):
    """Random training crops, as many of each label as in training."""
    source, random = prepare.training_crops(work, sources), np.random.default_rng(7)
    labels = [label for label in crops.SHARES if label == "none" or label in source.things]
    shares = np.array([crops.SHARES[label] for label in labels])
    drawn = random.choice(labels, count, p=shares / shares.sum())
    return np.stack([source.sample(label, random, size) for label in drawn])


def head_scores(means, weight, bias):
    """The softmax of the linear head on means of fire9."""
    z = means @ weight.T + bias
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def means_of(run, squares):
    """The means over positions of the maps that `run` gives, batch by batch."""
    parts = [run(squares[i : i + calibrate.BATCH]) for i in range(0, len(squares), calibrate.BATCH)]
    return np.concatenate([part.mean(axis=(1, 2)) for part in parts])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path, help="folder of prepare.py and train.py")
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--float", action="store_true", help="start from everyday_float.safetensors in --out")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--sources", choices=("clean", "all"), default="clean")
    parser.add_argument("--crops", type=int, default=600, help="crops for calibration")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    model = net.Everyday(net.published_kernels(), pictures.LEAVES)
    weights_file = arguments.out / "everyday_float.safetensors"
    if arguments.float:
        state = {name: torch.from_numpy(array.astype(np.float32)) for name, array in load_file(weights_file).items()}
    else:
        state, published = torch.load(arguments.work / "checkpoint.pt")["averaged"], model.state_dict()
        for name in (name for name in state if name.startswith("trunk")):
            state[name] = TRAINED * state[name] + (1 - TRAINED) * published[name]
        halves = {name: np.ascontiguousarray(tensor.numpy().astype(np.float16)) for name, tensor in state.items()}
        weights_file.write_bytes(save(halves, {"leaves": ",".join(pictures.LEAVES), "size": str(arguments.size)}))
        state = {name: torch.from_numpy(array.astype(np.float32)) for name, array in halves.items()}
    model.load_state_dict(state)
    kernels, weight, bias = net.kernels_of(model), state["head.weight"].numpy(), state["head.bias"].numpy()

    rgb = calibration_crops(arguments.work, arguments.sources, arguments.crops, arguments.size)
    layers, scales = calibrate.calibrate(kernels, rgb, LAST)
    data = graph.squeezenet(layers, scales, arguments.size, LAST, DESCRIPTION).to_bytes()
    for square in rgb[:10]:
        litert = golden.run_litert(data, (square.astype(np.int16) - 128).astype(np.int8)[None])
        if not np.array_equal(litert, quantized.run(layers, scales, square[None], last=LAST) - 128):
            raise SystemExit("LiteRT computes another map")
    file = arguments.out / "everyday_int8.tflite"
    file.write_bytes(data)
    print(f"{file}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}, LiteRT agrees on 10 crops")
    adds = network.multiply_adds(arguments.size, LAST), network.multiply_adds()
    print(f"{adds[0]} multiply-adds, {adds[0] / adds[1]:.3f} of the ImageNet network's {adds[1]}")

    held = crops.held_out(prepare.split(arguments.work, "validation", "all"), arguments.size, most=150)
    squares = np.stack([crop.rgb for crop in held])
    float_scores = head_scores(means_of(lambda x: network.run_float(kernels, x, last=LAST), squares), weight, bias)
    scale = scales[LAST]
    int8_scores = head_scores(
        means_of(lambda x: quantized.run(layers, scales, x, last=LAST) * scale, squares), weight, bias
    )
    same = (float_scores.argmax(axis=1) == int8_scores.argmax(axis=1)).mean()
    divergence = (float_scores * np.log((float_scores + 1e-9) / (int8_scores + 1e-9))).sum(axis=1).mean()
    print(f"validation: same best leaf {same:.1%}, KL {divergence:.4f}")
    print(f"float: {measure.summary(held, float_scores)}")
    print(f"int8:  {measure.summary(held, int8_scores)}")


if __name__ == "__main__":
    main()
