#!/usr/bin/env python3
"""Reads the pictures with all that is known of them once, and makes training samples.

    python models/everyday/teacher.py yolox_nano.onnx PHOTOS > WORK/photos.jsonl
    python models/everyday/teacher.py yolox_nano.onnx DATA/coco > WORK/coco.jsonl
    python models/everyday/teacher.py yolox_nano.onnx DATA/aerial > WORK/aerial.jsonl
    python models/detector/data.py WORK DATA PHOTOS

Writes WORK/train.pkl, WORK/validation.pkl and WORK/test.pkl, split as the everyday network's pictures are.
Only sources with a stated licence are in train.pkl.
"""

import collections
import dataclasses
import json
import pathlib
import pickle
import sys

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from detector.net import CLASSES  # noqa: E402
from everyday import pictures  # noqa: E402

PERSON, VEHICLE, TWO_WHEELER, ANIMAL = range(4)
CLASS_OF = {
    "person": PERSON, "car": VEHICLE, "truck": VEHICLE, "bus": VEHICLE, "motorcycle": TWO_WHEELER,
    "bicycle": TWO_WHEELER, "dog": ANIMAL, "cat": ANIMAL, "bird": ANIMAL, "other_animal": ANIMAL,
}  # fmt: skip
SOURCES = ("highway", "roadcam", "icctv", "coco", "photos")
# From this score on a teacher's box of a class that nobody annotated is an example, from the second on
# unclear.
TEACHER_FINDS, TEACHER_DOUBTS = 0.35, 0.12
# The weight of background for a class that nobody annotated: only the teacher says that there is nothing.
UNKNOWN_WEIGHT = 0.3
# How often a picture is drawn, and how much its scale changes. roadcam has small objects and three copies.
SHARES = {"highway": 1.0, "roadcam": 0.8, "icctv": 1.6, "coco": 4.0, "photos": 1.2}
SCALES = {"highway": (0.5, 1.7), "roadcam": (0.9, 2.1), "icctv": (0.9, 2.2), "coco": (0.45, 1.5), "photos": (0.4, 1.2)}
LONG_SIDE = 400
FILL = 114


@dataclasses.dataclass
class Picture:
    """A picture and what is known of it. Boxes are left, top, right, bottom in pixels.

    rgb: H x W x 3 uint8. boxes: n x 4, classes: n, scores: n (1: drawn by a person, less: the teacher's).
    unclear: m x 5, regions in which a class (the fifth value) may or may not be. known: 4 weights of background.
    drawn: the classes of which all objects were boxed by people.
    """

    file: str
    source: str
    group: str
    split: str
    rgb: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    unclear: np.ndarray
    known: np.ndarray
    drawn: tuple


def read(work, data, photos):
    """Yields all pictures."""
    files = [work / name for name in ("photos.jsonl", "coco.jsonl", "aerial.jsonl")]
    split = {p.file: p for p in pictures.load(data, photos, *files)}
    again = {f"coco/{line['file']}": line for line in lines(files[1])} | {
        f"aerial/{line['file']}": line for line in lines(files[2])
    }
    for line in lines(data / "labels.jsonl"):
        teacher = again.get(line["file"], line).get("teacher") or []
        yield labelled(split[line["file"]], data / line["file"], line, teacher)
    for line in lines(files[0]):
        name = f"photos/{line['file']}"
        yield labelled(split[name], photos / line["file"], {"annotated": [], "objects": [], **line}, line["teacher"])


def lines(file):
    """The objects of a file with one JSON object a line."""
    return [json.loads(line) for line in pathlib.Path(file).read_text(encoding="utf-8").splitlines()]


def corners(box):
    """Left, top, right, bottom of left, top, width, height."""
    return (box[0], box[1], box[0] + box[2], box[1] + box[3])


def labelled(known, file, line, teacher):
    """Joins what people and the teacher say of a picture. `known`: its everyday.pictures.Picture."""
    width, height = line["size"]
    drawn, annotated = line["objects"] or [], set(line["annotated"] or [])
    if any(o["box"][0] + o["box"][2] > width + 2 or o["box"][1] + o["box"][3] > height + 2 for o in drawn):
        # Boxes in pixels of another size: worthless.
        drawn, annotated = [], set()
    source = line["file"].split("/")[0] if "/" in line["file"] else "photos"
    boxes = [(corners(o["box"]), CLASS_OF[o["label"]], 1.0) for o in drawn if o["label"] in CLASS_OF]
    unclear = []
    for found in teacher:
        leaf = animal_or_leaf(found)
        if leaf is None or found["score"] < TEACHER_DOUBTS:
            continue
        box, kind = corners(found["box"]), CLASS_OF[leaf]
        if any(pictures.iou(box, other) > 0.4 for other, other_kind, score in boxes if score == 1 and other_kind == kind):
            continue
        if leaf not in annotated and found["score"] >= TEACHER_FINDS:
            boxes.append((box, kind, min(0.98, found["score"] + 0.2)))
        elif leaf not in annotated or found["score"] >= 0.4:
            # Of an annotated class: forgotten by people, or a mistake of the teacher.
            unclear.append((box, kind))
    if source == "photos" and int(line["file"][:4]) < 398 and not any(kind == ANIMAL for _, kind, _ in boxes):
        # An animal that the teacher's classes lack.
        unclear.append(((0, 0, width, height), ANIMAL))
    leaves = {kind: [leaf for leaf, of in CLASS_OF.items() if of == kind and leaf != "other_animal"] for kind in range(4)}
    complete = tuple(kind for kind in range(4) if annotated and all(leaf in annotated for leaf in leaves[kind]))
    mostly = tuple(kind for kind in range(4) if any(leaf in annotated for leaf in leaves[kind]))
    weights = [1.0 if kind in complete else 0.6 if kind in mostly else UNKNOWN_WEIGHT for kind in range(4)]
    rgb = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    # Both lists through the trimming of black borders.
    trimmed = pictures.trimmed(
        pictures.Picture(line["file"], source, rgb, [], [box for box, *_ in boxes] + [box for box, _ in unclear])
    )
    rgb, moved = trimmed.rgb, np.array(trimmed.blocked, np.float32).reshape(-1, 4)
    ratio = min(1, LONG_SIDE / max(rgb.shape[:2]))
    if ratio < 1:
        rgb, moved = cv2.resize(rgb, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA), moved * ratio
    count = len(boxes)
    # In changed copies that are nearly black or white nobody can tell what is in a box.
    shown = np.array([pictures.contrast(rgb, box) > 7 for box in moved[:count]], bool)
    unclear += [(None, kind) for (_, kind, _), seen in zip(boxes, shown) if not seen]
    moved = np.concatenate([moved, moved[:count][~shown]])
    region = np.concatenate([moved[count:], np.array([[kind] for _, kind in unclear], np.float32).reshape(-1, 1)], 1)
    return Picture(
        known.file, source, known.group, known.split, rgb, moved[:count][shown],
        np.array([kind for _, kind, _ in boxes], int)[shown],
        np.array([score for *_, score in boxes], np.float32)[shown],
        region, np.array(weights, np.float32), mostly,
    )  # fmt: skip


def animal_or_leaf(found):
    """The leaf of a teacher's box, or None."""
    if found["label"] in CLASS_OF:
        return found["label"]
    known = ("horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
    return "other_animal" if found.get("coco") in known else None


class Samples:
    """Draws training samples: pictures put together, scaled, mirrored, and changed as cameras do."""

    def __init__(self, everything):
        self.pictures = [p for p in everything if p.source in SOURCES]
        rare = np.array([4 if ANIMAL in p.classes or TWO_WHEELER in p.classes else 1 for p in self.pictures]) ** 0.35
        people = np.array([1.6 if PERSON in p.classes else 1 for p in self.pictures])
        empty = np.array([1 if len(p.boxes) else 0.5 for p in self.pictures])
        weights = np.array([SHARES[p.source] for p in self.pictures]) * rare * people * empty
        self.weights = np.cumsum(weights / weights.sum())
        self.grain = np.random.default_rng(3).standard_normal((512, 512, 3)).astype(np.float32)

    def draw(self, random, side):
        """Returns (rgb side x side x 3 uint8, the same unchanged, boxes n x 6, unclear m x 5, areas k x 8).

        The second picture is as before the changes that cameras make. boxes: left, top, right, bottom, class,
        score. areas: left, top, right, bottom, four weights.
        """
        canvas, unchanged = np.full((2, side, side, 3), FILL, np.uint8)
        layout = random.random()
        if layout < 0.3:
            tiles = [(0, 0, side, side)]
        elif layout < 0.75:
            cut = int(side * random.uniform(0.4, 0.6))
            tiles = [(0, 0, side, cut), (0, cut, side, side)]
        else:
            x, y = (int(side * random.uniform(0.35, 0.65)) for _ in range(2))
            tiles = [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]
        boxes, unclear, areas = [], [], []
        for tile in tiles:
            picture = self.pictures[int(np.searchsorted(self.weights, random.random()))]
            piece = self._put(canvas, unchanged, tile, picture, random, side)
            for out, part in zip((boxes, unclear, areas), piece):
                out.append(part)
        boxes, unclear, areas = (np.concatenate(parts) for parts in (boxes, unclear, areas))
        return canvas, unchanged, boxes, unclear, areas

    def _put(self, canvas, unchanged, tile, picture, random, side):
        left, top, right, bottom = tile
        width, height = right - left, bottom - top
        rgb, boxes, unclear = picture.rgb, picture.boxes, picture.unclear
        low, high = SCALES[picture.source]
        if width < 0.8 * side:
            high = max(low, high * 0.75)
        ratio = side / max(rgb.shape[:2]) * np.exp(random.uniform(np.log(low), np.log(high)))
        # Little of a tile stays grey.
        ratio = max(ratio, random.uniform(0.85, 1.1) * min(width / rgb.shape[1], height / rgb.shape[0]))
        stretch = np.exp(random.uniform(-0.12, 0.12))
        fx, fy = ratio * stretch, ratio / stretch
        # Where the picture's corner goes: a random cut, of a large picture around one of its objects.
        w, h = rgb.shape[1] * fx, rgb.shape[0] * fy
        x, y = random.uniform(min(0, width - w), max(0, width - w)), random.uniform(min(0, height - h), max(0, height - h))
        if len(boxes) and random.random() < 0.7:
            box = boxes[random.integers(len(boxes))]
            cx, cy = (box[0] + box[2]) / 2 * fx, (box[1] + box[3]) / 2 * fy
            if w > width:
                x = np.clip(random.uniform(0.1, 0.9) * width - cx, width - w, 0)
            if h > height:
                y = np.clip(random.uniform(0.1, 0.9) * height - cy, height - h, 0)
        x0, y0 = max(0, x), max(0, y)
        x1, y1 = min(width, x + w), min(height, y + h)
        matrix = np.array([[fx, 0, x], [0, fy, y]], np.float64)
        if ratio < 0.7:
            # Smooth first: warpAffine does not average.
            small = cv2.resize(rgb, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA)
            matrix = np.array([[1, 0, x], [0, 1, y]], np.float64)
            rgb = small
        piece = cv2.warpAffine(
            rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(FILL,) * 3
        )
        mirrored = random.random() < 0.5
        if mirrored:
            piece = piece[:, ::-1]
        unchanged[top:bottom, left:right] = piece
        canvas[top:bottom, left:right] = self._as_a_camera(np.ascontiguousarray(piece), random)

        def moved(rows):
            out = rows[:, :4] * (fx, fy, fx, fy) + (x, y, x, y)
            if mirrored:
                out = np.stack([width - out[:, 2], out[:, 1], width - out[:, 0], out[:, 3]], 1)
            return out

        limits = (left, top, left, top)
        whole, seen = moved(boxes), moved(boxes)
        for axis, limit in ((0, width), (1, height), (2, width), (3, height)):
            seen[:, axis] = seen[:, axis].clip(0, limit)
        sides = np.maximum(seen[:, 2:] - seen[:, :2], 0)
        share = sides.prod(1) / np.maximum((whole[:, 2:] - whole[:, :2]).prod(1), 1e-6)
        good = (share > 0.45) & (sides.min(1) >= 3) & (sides.max(1) >= 6)
        bad = ~good & (share > 0)
        out = np.concatenate([seen + limits, picture.classes[:, None], picture.scores[:, None]], 1)[good]
        region = moved(unclear) + limits
        region = np.concatenate([region, unclear[:, 4:]], 1)
        region = np.concatenate([region, np.concatenate([seen + limits, picture.classes[:, None]], 1)[bad]])
        region[:, [0, 2]] = region[:, [0, 2]].clip(left, right)
        region[:, [1, 3]] = region[:, [1, 3]].clip(top, bottom)
        if mirrored:
            x0, x1 = width - x1, width - x0
        area = np.array([[x0 + left, y0 + top, x1 + left, y1 + top, *picture.known]])
        return out.astype(np.float32), region.astype(np.float32), area.astype(np.float32)

    def _as_a_camera(self, image, random):
        """Infrared, night, contrast, gamma, tint, blur, compression, noise."""
        n = max(image.shape[:2])
        if random.random() < 0.12:
            side = random.uniform(0.4, 0.8)
            small = cv2.resize(image, None, fx=side, fy=side, interpolation=cv2.INTER_AREA)
            image = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        if random.random() < 0.12:
            if random.random() < 0.6:
                image = cv2.GaussianBlur(image, (0, 0), n / 320 * random.uniform(0.4, 1.6))
            else:
                image = cv2.blur(image, (int(random.integers(2, 7)), 1))
        kind = random.random()
        levels = np.arange(256, dtype=np.float32)
        if kind < 0.15:
            grey = cv2.transform(image, random.dirichlet([2, 2, 2])[None].astype(np.float32))
            image = cv2.cvtColor(grey.reshape(image.shape[:2]), cv2.COLOR_GRAY2RGB)
            if random.random() < 0.5:
                levels = 255 * (levels / 255) ** random.uniform(0.5, 1.6) * random.uniform(0.6, 1.5)
        elif kind < 0.23:
            levels = levels * random.uniform(0.2, 0.6) + random.uniform(0, 12)
        elif kind < 0.65:
            levels = (levels - 128) * random.uniform(0.6, 1.35) + 128 + random.uniform(-35, 35)
        if random.random() < 0.15:
            levels = 255 * (np.clip(levels, 0, 255) / 255) ** random.uniform(0.6, 1.8)
        tint = random.uniform(0.87, 1.1, 3) if random.random() < 0.25 else np.ones(3)
        if kind < 0.65 or tint[0] != 1:
            table = np.clip(levels[:, None] * tint, 0, 255).astype(np.uint8)[None]
            image = cv2.LUT(image, table.reshape(1, 256, 3))
        if random.random() < 0.25:
            h, w = image.shape[:2]
            y, x = random.integers(512 - min(h, 511)), random.integers(512 - min(w, 511))
            grain = self.grain[y : y + h, x : x + w] * np.float32(random.uniform(2, 11))
            image = np.clip(image + grain, 0, 255).astype(np.uint8)
        if random.random() < 0.2:
            code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(15, 70))])[1]
            image = cv2.imdecode(code, cv2.IMREAD_COLOR)
        return image


def fitted(rgb, width, height):
    """Scales a picture into the input's upper left corner, the rest grey. Returns (rgb, scale)."""
    ratio = min(width / rgb.shape[1], height / rgb.shape[0])
    size = max(1, round(rgb.shape[1] * ratio)), max(1, round(rgb.shape[0] * ratio))
    scaled = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
    out = np.full((height, width, 3), FILL, np.uint8)
    out[: size[1], : size[0]] = scaled
    return out, ratio


def load(work, split):
    """The pictures of a split, as main wrote them."""
    return pickle.loads((pathlib.Path(work) / f"{split}.pkl").read_bytes())


def main():
    work, data, photos = (pathlib.Path(argument) for argument in sys.argv[1:4])
    cv2.setNumThreads(1)
    shelves = collections.defaultdict(list)
    for picture in read(work, data, photos):
        if picture.split != "train" or picture.source in SOURCES:
            shelves[picture.split].append(picture)
    for split, its in shelves.items():
        (work / f"{split}.pkl").write_bytes(pickle.dumps(its))
        for source in sorted({p.source for p in its}):
            of_source = [p for p in its if p.source == source]
            drawn = collections.Counter(CLASSES[c] for p in of_source for c, s in zip(p.classes, p.scores) if s == 1)
            taught = collections.Counter(CLASSES[c] for p in of_source for c, s in zip(p.classes, p.scores) if s < 1)
            print(split, source, len(of_source), "drawn", dict(drawn), "teacher", dict(taught))


if __name__ == "__main__":
    # Pickled classes need the module's full name.
    from detector import data as itself

    itself.main()
