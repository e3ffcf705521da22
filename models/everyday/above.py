#!/usr/bin/env python3
"""Adds cut-outs of people and vehicles seen from above to what prepare.py has cut out.

    python models/everyday/above.py WORK RENDERS

RENDERS has pictures with alpha, LABEL_MODEL_aAZIMUTHeELEVATION.png, in degrees. Those from LEAST_ELEVATION on are used,
each three times: turned, because a camera that looks down sees things from every side, and vehicles painted in
another colour. Models in HELD_OUT are left out, so that they can measure.
"""

import pathlib
import pickle
import re
import sys

import cv2
import numpy as np

LEAST_ELEVATION, FREELY_TURNED_FROM = 34, 48
COPIES, MOST_SIDE = 3, 160
HELD_OUT = (
    "scopia-suv", "katorlegaz-concept-sedan-02", "reallusion-male02", "reallusion-female01", "scopia-mannequinMale",
)  # fmt: skip


def turned(rgba, degrees):
    """The picture turned about its middle, on a canvas that holds all of it."""
    height, width = rgba.shape[:2]
    side = int(np.hypot(height, width)) + 4
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    turn[:, 2] += (side - width) / 2, (side - height) / 2
    return cv2.warpAffine(rgba, turn, (side, side), flags=cv2.INTER_LINEAR)


def painted(rgba, random):
    """The picture in another hue, more or less colourful and bright."""
    hsv = cv2.cvtColor(np.ascontiguousarray(rgba[..., :3]), cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + random.integers(180)) % 180
    hsv[..., 1:] = np.clip(hsv[..., 1:] * (random.uniform(0.1, 1.3), random.uniform(0.5, 1.5)), 0, 255)
    return np.dstack([cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), rgba[..., 3]])


def trimmed(rgba):
    """The picture without its transparent border, at most MOST_SIDE pixels a side."""
    rows, columns = (np.flatnonzero(rgba[..., 3].max(axis=axis) > 40) for axis in (1, 0))
    rgba = np.ascontiguousarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    ratio = min(1, MOST_SIDE / max(rgba.shape[:2]))
    return cv2.resize(rgba, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)


def main():
    work, renders = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    shelves, random = pickle.loads((work / "cutouts.pkl").read_bytes()), np.random.default_rng(5)
    for file in sorted(renders.glob("*.png")):
        name = re.fullmatch(r"([a-z]+)_(.*)_a(\d+)e(\d+)", file.stem)
        if not name or int(name[4]) < LEAST_ELEVATION or any(model in name[2] for model in HELD_OUT):
            continue
        rgba = cv2.cvtColor(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
        for _ in range(COPIES):
            degrees = random.uniform(0, 360) if int(name[4]) >= FREELY_TURNED_FROM else random.normal(0, 8)
            copy = turned(rgba, degrees)
            if name[1] in ("car", "truck", "bus") and random.random() < 0.7:
                copy = painted(copy, random)
            shelves["train"].setdefault(name[1], []).append(trimmed(copy))
    (work / "cutouts.pkl").write_bytes(pickle.dumps(shelves))
    print({label: len(shelf) for label, shelf in shelves["train"].items()})


if __name__ == "__main__":
    main()
