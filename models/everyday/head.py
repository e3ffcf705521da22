#!/usr/bin/env python3
"""Trains a head on the features of camfire's int8 engine, calibrates it and writes the head file.

    python models/everyday/head.py WORK MODEL.tflite FEATURES --out FILE [--sources clean]

WORK is the folder of prepare.py, FEATURES the program engine/examples/features.rs. The features are the means
of fire9/concat. Prints the tables of the model card, measured on the test split of all sources.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from everyday import crops, measure, prepare  # noqa: E402
from everyday.augment import augment  # noqa: E402
from everyday.pictures import LEAVES  # noqa: E402

MAP = "fire9/concat"
EPOCHS, BATCH, RATE, DECAY, SMOOTHING = 40, 256, 2e-3, 0.2, 0.03
PRECISION = 0.92
LEAST_THRESHOLD, MOST_THRESHOLD = 0.5, 0.95
# The daemon also asks ImageNet's classes which animal it is, so a head need not be so sure.
MOST_FOR_ANIMALS = 0.7
# A label with fewer crops to choose by has at least this threshold.
FEW, LEAST_OF_FEW = 40, 0.7


def features(program, model, squares):
    """Returns the means of MAP for squares N x n x n x 3, computed by the engine."""
    run = subprocess.run([program, model, MAP], input=np.ascontiguousarray(squares).tobytes(), capture_output=True, check=True)
    return np.frombuffer(run.stdout, "<f4").reshape(len(squares), -1)


def in_chunks(program, model, squares, chunk=500):
    """Features of an iterable of squares, with little memory."""
    out, waiting = [], []
    for square in squares:
        waiting.append(square)
        if len(waiting) == chunk:
            out.append(features(program, model, np.stack(waiting)))
            waiting = []
    return np.concatenate(out + ([features(program, model, np.stack(waiting))] if waiting else []))


def training_set(work, sources, count, size, program, model, seed):
    """Features and targets of random augmented crops."""
    source, random = prepare.training_crops(work, sources), np.random.default_rng(seed)
    labels = [label for label in crops.SHARES if label == "none" or label in source.things]
    shares = np.array([crops.SHARES[label] for label in labels])
    drawn = random.choice(labels, count, p=shares / shares.sum())
    x = in_chunks(program, model, (source.sample(label, random, size) for label in drawn))
    return x, np.array([LEAVES.index(label) for label in drawn])


class Held:
    """The crops of a split with their features, as they are and, for calibration, changed as cameras do."""

    def __init__(self, crops_, program, model, changed):
        self.crops = list(crops_)
        squares = [crop.rgb for crop in self.crops]
        if changed:
            random = np.random.default_rng(1)
            squares += [augment(s, random, s[::-1], small=0.15) for s in squares]
            self.crops *= 2
        self.x = in_chunks(program, model, squares)
        self.y = np.array([LEAVES.index(crop.label) for crop in self.crops])
        for crop in self.crops:
            crop.rgb = None


def fit(x, y, held, hidden, seed):
    """Trains dense layers on standardized features. Returns (held-out loss, layers for raw features)."""
    torch.manual_seed(seed)
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-3
    widths = [x.shape[1], hidden, len(LEAVES)]
    dense = [nn.Linear(a, b) for a, b in zip(widths, widths[1:])]
    parts = [nn.Dropout(0.2), dense[0]]
    for layer in dense[1:]:
        parts += [nn.ReLU(), nn.Dropout(0.3), layer]
    model = nn.Sequential(*parts)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    inputs, targets = torch.from_numpy((x - mean) / std).float(), torch.from_numpy(y)
    held_x, held_y = torch.from_numpy((held.x - mean) / std).float(), torch.from_numpy(held.y)
    weight = torch.from_numpy(measure.balanced_weights(held.crops)).float()
    steps = EPOCHS * (len(x) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    best = (np.inf, None)
    for epoch in range(EPOCHS):
        model.train()
        for chosen in torch.randperm(len(x), generator=torch.Generator().manual_seed(seed * 1000 + epoch)).split(BATCH):
            loss = functional.cross_entropy(model(inputs[chosen]), targets[chosen], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            losses = functional.cross_entropy(model(held_x), held_y, reduction="none")
        loss = float((losses * weight).sum() / weight.sum())
        if loss < best[0]:
            best = (loss, [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in dense])
    first, bias = best[1][0]
    best[1][0] = (first / std, bias - (first / std) @ mean)
    return best[0], [(w.astype(np.float32), b.astype(np.float32)) for w, b in best[1]]


def joined(heads):
    """One head whose logits are the mean of the logits of several heads with one hidden layer each."""
    hidden = np.concatenate([head[0][0] for head in heads]), np.concatenate([head[0][1] for head in heads])
    last = np.concatenate([head[1][0] for head in heads], axis=1) / len(heads), np.mean([head[1][1] for head in heads], axis=0)
    return [hidden, last]


def logits(layers, x):
    """Runs the dense layers in f32."""
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight.T + bias
        if i + 1 < len(layers):
            x = np.maximum(x, 0)
    return x


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def fit_temperature(z, y, weight):
    """The temperature with the least weighted log loss."""
    candidates = np.exp(np.linspace(np.log(0.4), np.log(4), 120))
    losses = [(-np.log(softmax(z / t)[np.arange(len(y)), y] + 1e-9) * weight).sum() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def thresholds(crops_, scores):
    """Returns node -> the least threshold from which on the precision on these crops stays at the goal."""
    out = {}
    for node, leaves in measure.TREE.items():
        p = scores[:, measure.columns(leaves)].sum(axis=1)
        right = np.array([crop.label in leaves for crop in crops_])
        chosen = MOST_THRESHOLD
        for t in np.arange(MOST_THRESHOLD, LEAST_THRESHOLD - 0.001, -0.01):
            claimed = p >= t
            if claimed.sum() >= 5 and right[claimed].mean() < PRECISION:
                break
            chosen = t
        chosen = max(chosen, LEAST_OF_FEW if right.sum() < FEW else 0)
        if measure.PARENTS.get(node) == "animal":
            chosen = min(chosen, MOST_FOR_ANIMALS)
        out[node] = round(float(chosen), 2)
    return out


def head_file(layers, temperature, levels, backbone, card):
    """The bytes of the head file."""
    labels = []
    for node, threshold in levels.items():
        label = {"name": node, "threshold": threshold}
        labels.append(label | ({"parent": measure.PARENTS[node]} if node in measure.PARENTS else {}))
    meta = {
        "version": 1,
        "name": "everyday",
        "backbone_sha256": hashlib.sha256(backbone).hexdigest(),
        "maps": [MAP],
        # An animal that is no dog, cat or bird has no name of its own: its output has that of the inner node.
        "outputs": ["animal" if leaf == "other_animal" else leaf for leaf in LEAVES],
        "none": "none",
        "labels": labels,
        "temperature": round(temperature, 4),
        "card": card,
    }
    tensors = {}
    for i, (weight, bias) in enumerate(layers):
        tensors |= {f"dense{i}.weight": np.ascontiguousarray(weight), f"dense{i}.bias": np.ascontiguousarray(bias)}
    return save(tensors, {"camfire.head": json.dumps(meta)})


def load(file):
    """Returns (layers, temperature, node -> threshold) of a head file."""
    with safe_open(file, "numpy") as tensors:
        meta = json.loads(tensors.metadata()["camfire.head"])
        count = len(tensors.keys()) // 2
        layers = [(tensors.get_tensor(f"dense{i}.weight"), tensors.get_tensor(f"dense{i}.bias")) for i in range(count)]
    return layers, meta["temperature"], {label["name"]: label["threshold"] for label in meta["labels"]}


def report_thresholds(levels, crops_, scores):
    """Prints recall and precision of every node at its threshold."""
    for node, leaves in measure.TREE.items():
        p, right = scores[:, measure.columns(leaves)].sum(axis=1), np.array([crop.label in leaves for crop in crops_])
        claimed = p >= levels[node]
        precision = right[claimed].mean() if claimed.any() else float("nan")
        print(f"  {node}: threshold {levels[node]:.2f}, recall {claimed[right].mean():.3f}, precision {precision:.3f}")


def report(test, layers, temperature, levels):
    """Prints the tables of the model card."""
    scores = softmax(logits(layers, test.x) / temperature)
    print(f"summary: {measure.summary(test.crops, scores)}")
    measure.report(test.crops, scores)
    report_thresholds(levels, test.crops, scores)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path, help="folder of prepare.py")
    parser.add_argument("model", type=pathlib.Path, help="the backbone")
    parser.add_argument("features", help="the program engine/examples/features.rs")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--sources", choices=("clean", "all"), default="clean")
    parser.add_argument("--size", type=int, default=227, help="side of the backbone's input")
    parser.add_argument("--crops", type=int, default=24000, help="training crops")
    parser.add_argument("--hidden", type=int, default=128, help="width of one head's hidden layer")
    parser.add_argument("--heads", type=int, default=3, help="number of heads that are joined to one")
    parser.add_argument("--measure", action="store_true", help="measure the file instead of writing it")
    parser.add_argument("--card", default="", help="what the file says about itself")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    run = arguments.features, str(arguments.model)
    if arguments.measure:
        layers, temperature, levels = load(arguments.out)
        test = Held(crops.held_out(prepare.split(arguments.work, "test", "all"), arguments.size), *run, False)
        report(test, layers, temperature, levels)
        return

    cache = arguments.work / f"features_{arguments.model.stem}_{arguments.sources}.npz"
    if cache.exists():
        with np.load(cache) as saved:
            x, y = saved["x"], saved["y"]
    else:
        x, y = training_set(arguments.work, arguments.sources, arguments.crops, arguments.size, *run, seed=0)
        np.savez(cache, x=x, y=y)
    held = {}
    for name, split, sources, changed in (
        ("stop", "validation", arguments.sources, True),
        ("calibrate", "validation", "all", False),
        ("test", "test", "all", False),
    ):
        kept = crops.held_out(prepare.split(arguments.work, split, sources), arguments.size)
        held[name] = Held(kept, *run, changed)
    print(f"{len(x)} training crops, " + ", ".join(f"{name} {len(h.crops)}" for name, h in held.items()), flush=True)

    heads = [fit(x, y, held["stop"], arguments.hidden, seed) for seed in range(arguments.heads)]
    layers, calibrate, test = joined([layers for _, layers in heads]), held["calibrate"], held["test"]
    temperature = fit_temperature(logits(layers, calibrate.x), calibrate.y, measure.balanced_weights(calibrate.crops))
    levels = thresholds(calibrate.crops, softmax(logits(layers, calibrate.x) / temperature))
    data = head_file(layers, temperature, levels, arguments.model.read_bytes(), arguments.card)
    arguments.out.write_bytes(data)
    print(f"{arguments.out}: {len(data)} bytes, temperature {temperature:.3f}")
    report(test, layers, temperature, levels)


if __name__ == "__main__":
    main()
