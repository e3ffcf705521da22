#!/usr/bin/env python3
"""Reads all pictures once, groups and splits them, cuts objects out, and keeps it in a working folder.

    python models/everyday/teacher.py yolox_nano.onnx PHOTOS > WORK/photos.jsonl
    python models/everyday/teacher.py yolox_nano.onnx DATA/coco > WORK/coco.jsonl
    python models/everyday/teacher.py yolox_nano.onnx DATA/aerial > WORK/aerial.jsonl
    python models/everyday/prepare.py WORK DATA PHOTOS [FREE]

DATA: the labelled pictures. PHOTOS: ImageNet photos named NNNN_name.jpg. FREE: a folder of photos (.jpg) and cut-outs
(.png with alpha) under free licences, LABEL/NAME, with a table SOURCES.tsv: file, package, path, author,
licence. Prints what there is for every source and split; credits.tsv says whom
to credit for the free pictures.
"""

import collections
import pathlib
import pickle
import sys

import cv2

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from everyday import crops, pictures  # noqa: E402


def split(work, name, sources):
    """The pictures of a split. With clean sources only, the others are never `train`: they measure."""
    everything = pickle.loads((work / "pictures.pkl").read_bytes())
    if sources == "all":
        return [p for p in everything if p.split == name]
    return [p for p in everything if p.split == name and p.source in pictures.CLEAN]


def training_crops(work, sources):
    """The crops of the training split."""
    shelves = pickle.loads((work / "cutouts.pkl").read_bytes())
    return crops.Crops(split(work, "train", sources), shelves["train"])


def main():
    work, data, photos = (pathlib.Path(argument) for argument in sys.argv[1:4])
    free = sys.argv[4] if len(sys.argv) > 4 else None
    cv2.setNumThreads(1)
    boxes = [work / name for name in ("photos.jsonl", "coco.jsonl", "aerial.jsonl")]
    everything = pictures.load(data, photos, *boxes, free=free)
    (work / "pictures.pkl").write_bytes(pickle.dumps(everything))
    for source in sorted({p.source for p in everything}):
        of_source = [p for p in everything if p.source == source]
        print(source, len(of_source), "pictures", len({p.group for p in of_source}), "groups")
        for name in ("train", "validation", "test"):
            counts = collections.Counter(o.label for p in of_source if p.split == name for o in p.objects)
            print("   ", name, sum(p.split == name for p in of_source), dict(counts))
    shelves = crops.cutouts([p for p in everything if p.source in pictures.CLEAN])
    if free:
        (work / "credits.tsv").write_text(pictures.credits(pathlib.Path(free)), encoding="utf-8")
    for label, rgbas in (pictures.free_cutouts(free) if free else {}).items():
        shelves["train"].setdefault(label, []).extend(rgbas)
    (work / "cutouts.pkl").write_bytes(pickle.dumps(shelves))
    print("cut out", {name: {label: len(v) for label, v in shelf.items()} for name, shelf in shelves.items()})


if __name__ == "__main__":
    main()
