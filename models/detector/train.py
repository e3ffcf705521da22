#!/usr/bin/env python3
"""Trains the detector. Resumes where it was stopped.

    python models/detector/train.py WORK yolox_nano.onnx [--minutes 100] [--until HH:MM] [--batch 8] [--side 320]

WORK is the folder of data.py. A second process draws the samples and asks the teacher. Writes WORK/checkpoint.pt every few minutes, and nothing else: quantize.py reads
it. The learning rate follows the time that has been used, not the steps, so that a run ends when it should on
any machine. A finished run goes on with a larger --minutes: the rate rises again to where that schedule is.
"""

import argparse
import copy
import datetime
import math
import multiprocessing
import pathlib
import sys
import time

import cv2
import numpy as np
import torch
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from detector import ap, data, loss, net, teacher  # noqa: E402

TRUNK = pathlib.Path(__file__).resolve().parent.parent / "everyday" / "everyday_float.safetensors"
RATES = {"trunk": 3e-4, "new": 2e-3}
WARMUP_STEPS = 150
LEAST_RATE = 0.02
DECAY = 5e-4
EMA_STEPS = 600
# Validation pictures, and minutes between two looks at them and between two checkpoints.
LOOKED_AT, LOOK_MINUTES, SAVE_MINUTES = 240, 12, 4
# Batches that are drawn ahead.
AHEAD = 8


def parameter_groups(model):
    """The parameters with their highest learning rates. What is frozen is in none."""
    frozen = tuple(f"convs.{name}" for name in net.FROZEN)
    new = {f"convs.{net.key(op.name)}" for op in model.plan if isinstance(op, net.Conv) and op.new}
    groups = {name: [] for name in RATES}
    for name, parameter in model.named_parameters():
        if name.startswith(frozen):
            parameter.requires_grad_(False)
        else:
            groups["new" if name.startswith("norms") or name.rsplit(".", 1)[0] in new else "trunk"].append(parameter)
    return [{"params": groups[name], "lr": rate} for name, rate in RATES.items()]


def rate_at(progress, step):
    """The learning rate as a share of the highest: a short rise and half a cosine."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(1, progress))
    return min(1, (step + 1) / WARMUP_STEPS) * max(LEAST_RATE, cosine)


def detect(model, pictures, side, batch=8):
    """Returns detections for each picture, in its own pixels."""
    model.eval()
    cells, out = torch.from_numpy(net.anchors(side, side)), []
    with torch.no_grad():
        for i in range(0, len(pictures), batch):
            put = [data.fitted(p.rgb, side, side) for p in pictures[i : i + batch]]
            logits, logarithms = net.flat(model(net.batch_of(np.stack([rgb for rgb, _ in put]))))
            boxes = net.decode(logarithms, cells).numpy()
            for j, (_, ratio) in enumerate(put):
                its = ap.found(logits[j].numpy(), boxes[j])
                its[:, :4] /= ratio
                out.append(its)
    model.train()
    return out


def summary(pictures, detections):
    """A line of AP50 by class over all pictures where people boxed that class."""
    parts = []
    for kind, name in enumerate(net.CLASSES):
        chosen = [i for i, p in enumerate(pictures) if kind in p.drawn]
        its = [detections[i][detections[i][:, 5] == kind] for i in chosen]
        truths = [pictures[i].boxes[(pictures[i].classes == kind) & (pictures[i].scores == 1)] for i in chosen]
        value, recall, count = ap.average_precision(its, truths)
        parts.append(f"{name} {value:.3f} (recall {recall:.2f} of {count})")
    return ", ".join(parts)


def looked_at(work):
    """Validation pictures in which people boxed something, the same ones each time."""
    chosen = [p for p in data.load(work, "validation") if p.drawn and p.source in data.SOURCES]
    order = np.random.default_rng(0).permutation(len(chosen))[:LOOKED_AT]
    return [chosen[i] for i in order]


def save(file, **state):
    """Writes a checkpoint so that a torn write does not destroy the last one."""
    torch.save(state, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)


def draw(samples, yolox, side, batch, seed, batches):
    """Fills the queue with batches: pictures, what is known of each, and the teacher's answers."""
    cv2.setNumThreads(1)
    ask, random = teacher.Teacher(yolox, side, batch), np.random.default_rng(seed)
    while True:
        drawn = [samples.draw(random, side) for _ in range(batch)]
        taught = ask(np.stack([unchanged for _, unchanged, *_ in drawn]))
        batches.put((np.stack([rgb for rgb, *_ in drawn]), [known for _, _, *known in drawn], taught))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path, help="folder of data.py")
    parser.add_argument("yolox", help="yolox_nano.onnx, the teacher")
    parser.add_argument("--minutes", type=float, default=100, help="time for the whole training, earlier runs included")
    parser.add_argument("--until", help="instead of --minutes: the time of day at which it ends")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--name", default="checkpoint", help="of the checkpoint")
    parser.add_argument("--begin", type=pathlib.Path, help="a checkpoint whose averaged weights are the first ones")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)

    samples, held_out = data.Samples(data.load(arguments.work, "train")), looked_at(arguments.work)
    model = net.Detector()
    model.load_trunk(load_file(TRUNK))
    if arguments.begin:
        model.load_state_dict(torch.load(arguments.begin)["averaged"])
    model = model.to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(model), weight_decay=DECAY)
    checkpoint, step, spent = arguments.work / f"{arguments.name}.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
        print(f"resumes after step {step} and {spent / 60:.1f} minutes", flush=True)
    minutes = arguments.minutes
    if arguments.until:
        now = datetime.datetime.now()
        end = datetime.datetime.combine(now.date(), datetime.time.fromisoformat(arguments.until))
        minutes = spent / 60 + ((end - now) % datetime.timedelta(days=1)).total_seconds() / 60
    print(f"{len(samples.pictures)} pictures, {minutes:.1f} minutes in all", flush=True)

    cells = torch.from_numpy(net.anchors(arguments.side, arguments.side))
    tensors, means = list(zip(averaged.state_dict().values(), model.state_dict().values())), np.zeros(4)
    begun = time.time() - spent
    saved, looked, cpu, first = time.time(), time.time(), time.process_time(), step
    batches = multiprocessing.Queue(AHEAD)
    work = (samples, arguments.yolox, arguments.side, arguments.batch, step, batches)
    multiprocessing.Process(target=draw, args=work, daemon=True).start()
    model.train()
    progress = spent / (60 * minutes)
    while progress < 1:
        rgb, drawn, taught = batches.get()
        logits, logarithms = net.flat(model(net.batch_of(rgb)))
        taught = tuple(torch.from_numpy(rows) for rows in taught)
        classes, boxes, count, distance = loss.loss_of(logits, logarithms, cells, drawn, taught)
        optimizer.zero_grad()
        (classes + boxes + distance).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 10.0)
        progress = (time.time() - begun) / (60 * minutes)
        for group, rate in zip(optimizer.param_groups, RATES.values()):
            group["lr"] = rate * rate_at(progress, step)
        optimizer.step()
        step += 1
        keep = min(1 - 1 / EMA_STEPS, step / (step + 9))
        with torch.no_grad():
            for mean, value in tensors:
                mean.lerp_(value, 1 - keep) if mean.is_floating_point() else mean.copy_(value)
        share = max(0.02, 1 / (step - first))
        means += share * (np.array([classes.item(), boxes.item(), count / arguments.batch, distance.item()]) - means)
        if step % 50 == 0:
            each = (time.process_time() - cpu) / (step - first) / arguments.batch
            text = "classes {:.3f} boxes {:.3f} cells {:.1f} teacher {:.3f}".format(*means)
            print(f"step {step} {progress:.1%} {text}, {each * 1e3:.0f} ms of CPU a sample", flush=True)
        last = progress >= 1
        if last or time.time() - saved > 60 * SAVE_MINUTES:
            saved, spent = time.time(), time.time() - begun
            save(
                checkpoint, model=model.state_dict(), averaged=averaged.state_dict(), optimizer=optimizer.state_dict(),
                step=step, spent=spent,
            )  # fmt: skip
        if last or time.time() - looked > 60 * LOOK_MINUTES:
            looked = time.time()
            line = summary(held_out, detect(averaged, held_out, arguments.side))
            print(f"step {step}, {progress:.1%} of the time: {line}", flush=True)


if __name__ == "__main__":
    main()
