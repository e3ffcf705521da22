#!/usr/bin/env python3
"""Finds COCO objects in a folder of pictures with YOLOX-nano and prints one JSON line per picture.

    python models/everyday/teacher.py yolox_nano.onnx FOLDER > boxes.jsonl

The lines have the keys `file`, `size` and `teacher` of the data set's labels.jsonl; every box also has the
COCO class as `coco`. Needed for pictures that nobody has labelled: the ImageNet photos, and the "other" boxes
of COCO pictures, among which are horses and cows.
"""

import json
import pathlib
import sys

import cv2
import numpy as np
import onnxruntime

COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,"
    "wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,"
    "couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,"
    "sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")
KNOWN = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "bird", "cat", "dog")
LEAST_SCORE = 0.1
NMS_IOU = 0.5


def grid(size):
    """Returns the centre offsets and the strides of YOLOX's predictions, in its order."""
    cells, strides = [], []
    for stride in (8, 16, 32):
        y, x = np.mgrid[: size // stride, : size // stride]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def detect(session, bgr):
    """Returns [(COCO class, score, [left, top, width, height])] of one picture."""
    (spec,) = session.get_inputs()
    size = spec.shape[2]
    cells, strides = grid(size)
    ratio = size / max(bgr.shape[:2])
    scaled = cv2.resize(bgr, None, fx=ratio, fy=ratio)[:size, :size]
    padded = np.full((size, size, 3), 114, np.float32)
    padded[: scaled.shape[0], : scaled.shape[1]] = scaled
    rows = session.run(None, {spec.name: padded.transpose(2, 0, 1)[None]})[0][0]
    scores = rows[:, 4:5] * rows[:, 5:]
    best, classes = scores.max(axis=1), scores.argmax(axis=1)
    kept = best > LEAST_SCORE
    centres, sizes = (rows[:, :2] + cells) * strides, np.exp(rows[:, 2:4]) * strides
    boxes = (np.concatenate([centres - sizes / 2, sizes], axis=1) / ratio)[kept]
    best, classes = best[kept], classes[kept]
    # Classes are moved apart so that suppression works within each.
    apart = boxes + np.outer(classes, [10000, 0, 0, 0])
    survivors = np.array(cv2.dnn.NMSBoxes(apart.tolist(), best.tolist(), LEAST_SCORE, NMS_IOU), int).reshape(-1)
    return [(COCO[classes[i]], float(best[i]), boxes[i].round().astype(int).tolist()) for i in survivors]


def main():
    model, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    for file in sorted(folder.glob("*.jpg")):
        bgr = cv2.imread(str(file))
        teacher = [
            {"label": name if name in KNOWN else "other", "coco": name, "box": box, "score": round(score, 3)}
            for name, score, box in detect(session, bgr)
        ]
        print(json.dumps({"file": file.name, "size": [bgr.shape[1], bgr.shape[0]], "teacher": teacher}))


if __name__ == "__main__":
    main()
