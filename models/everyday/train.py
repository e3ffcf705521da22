#!/usr/bin/env python3
"""Fine-tunes all layers of SqueezeNet v1.1 on everyday crops. Resumes where it was stopped.

    python models/everyday/train.py WORK [--minutes 85] [--crops 16000] [--size 128] [--sources clean]

WORK is the folder of prepare.py. Writes WORK/checkpoint.pt after every epoch, and nothing else: quantize.py
reads it. The learning rate follows the time that has been used, not the steps, so that a run ends when it
should on any machine. --measure prints the milliseconds of a crop and ends.
"""

import argparse
import copy
import math
import pathlib
import sys
import time

import cv2
import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from everyday import crops, measure, net, pictures, prepare  # noqa: E402

BATCH = 48
RATES = {"conv1": 5e-5, "trunk": 5e-4, "head": 3e-3}
WARMUP = 0.04
SMOOTHING = 0.03
# So many crops of a batch, animals first, must also keep the answer of ImageNet's head: there are few animals
# in the data, but the published network has seen hundreds of thousands.
REMEMBERED, REMEMBERING = 20, 1.0
ANIMALS = [pictures.LEAVES.index(leaf) for leaf in ("dog", "cat", "bird", "other_animal")]
EMA_STEPS = 1000


def parameter_groups(model):
    """The parameters with their highest learning rates. conv1 reads values up to 255, so its steps are small."""
    groups = {name: [] for name in RATES}
    for name, parameter in model.named_parameters():
        groups["head" if name.startswith("head") else "conv1" if ".conv1." in name else "trunk"].append(parameter)
    return [{"params": groups[name], "lr": rate} for name, rate in RATES.items()]


def batches(source, size, count, seed):
    """Yields (squares, targets) for one epoch."""
    random = np.random.default_rng(seed)
    labels = [label for label in crops.SHARES if label == "none" or label in source.things]
    shares = np.array([crops.SHARES[label] for label in labels])
    # Equal counts an epoch, in random order.
    drawn = np.repeat(labels, np.maximum(1, np.rint(shares / shares.sum() * count).astype(int)))
    random.shuffle(drawn)
    for i in range(0, len(drawn) - BATCH + 1, BATCH):
        chosen = drawn[i : i + BATCH]
        squares = np.stack([source.sample(label, random, size) for label in chosen])
        yield squares, torch.tensor([pictures.LEAVES.index(label) for label in chosen])


def rate_at(progress):
    """The learning rate as a share of the highest: a short rise and half a cosine."""
    return min(1, 0.02 + progress / WARMUP) * max(0.0, 0.5 + 0.5 * math.cos(math.pi * min(1, progress)))


def loss_of(model, published, imagenet, squares, targets):
    """The loss of a batch. Maps are computed in bfloat16 where the CPU can."""
    x = net.batch_of(squares)
    chosen = torch.argsort((~torch.isin(targets, torch.tensor(ANIMALS))).int(), stable=True)[:REMEMBERED]
    with torch.autocast("cpu", torch.bfloat16):
        maps = model.trunk(x)
        answer = model.answer(maps).float()
        with torch.no_grad():
            known = imagenet(published(x[chosen].contiguous(memory_format=torch.channels_last))).float()
        kept = imagenet(maps[chosen]).float()
    loss = functional.cross_entropy(answer, targets, label_smoothing=SMOOTHING)
    forgotten = functional.kl_div(kept.log_softmax(1), known.log_softmax(1), reduction="batchmean", log_target=True)
    return loss + REMEMBERING * forgotten


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path, help="folder of prepare.py")
    parser.add_argument("--minutes", type=float, default=85, help="time for all epochs together")
    parser.add_argument("--crops", type=int, default=16000, help="crops an epoch")
    parser.add_argument("--size", type=int, default=128, help="side of the input")
    parser.add_argument("--sources", choices=("clean", "all"), default="clean")
    parser.add_argument("--measure", action="store_true", help="print the time of a crop and end")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)

    source = prepare.training_crops(arguments.work, arguments.sources)
    held_out = crops.held_out(prepare.split(arguments.work, "validation", "all"), arguments.size, most=200)
    kernels = net.published_kernels()
    model = net.Everyday(kernels, pictures.LEAVES).to(memory_format=torch.channels_last)
    published = net.Trunk(kernels).to(memory_format=torch.channels_last).requires_grad_(False)
    imagenet = net.ImageNetHead(kernels).to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(parameter_groups(model), weight_decay=1e-3)
    checkpoint, epoch, step, spent = arguments.work / "checkpoint.pt", 0, 0, 0.0
    if checkpoint.exists() and not arguments.measure:
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        epoch, step, spent = state["epoch"], state["step"], state["spent"]
        print(f"resumes after epoch {epoch} and {spent / 60:.1f} minutes")

    begun, progress = time.time() - spent, 0.0
    while progress < 1:
        model.train()
        started, losses = time.time(), []
        for squares, targets in batches(source, arguments.size, arguments.crops, seed=epoch):
            loss = loss_of(model, published, imagenet, squares, targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            progress = (time.time() - begun) / (60 * arguments.minutes)
            for group, rate in zip(optimizer.param_groups, RATES.values()):
                group["lr"] = rate * rate_at(progress)
            optimizer.step()
            step += 1
            keep = min(1 - 1 / EMA_STEPS, step / (step + 9))
            with torch.no_grad():
                torch._foreach_mul_(list(averaged.parameters()), keep)
                torch._foreach_add_(list(averaged.parameters()), list(model.parameters()), alpha=1 - keep)
            losses.append(loss.item())
            if len(losses) % 50 == 0:
                each = (time.time() - started) / len(losses) / BATCH
                print(f"epoch {epoch + 1} step {step} loss {np.mean(losses[-50:]):.3f} {each * 1e3:.1f} ms a crop", flush=True)
                if arguments.measure:
                    return
            if progress >= 1:
                break
        epoch += 1
        scores = net.probabilities(averaged, np.stack([crop.rgb for crop in held_out]))
        print(f"epoch {epoch}, {progress:.0%} of the time: {measure.summary(held_out, scores)}", flush=True)
        state = {"model": model.state_dict(), "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"epoch": epoch, "step": step, "spent": time.time() - begun}
        torch.save(state, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)


if __name__ == "__main__":
    main()
