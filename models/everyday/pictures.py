"""Reads the pictures with their boxes, groups them by scene and splits the groups.

A picture's `objects` are what it may be used for as an example, its `blocked` boxes are where no background
may be taken: everything that somebody or the teacher has boxed, even with a low score.
"""

import dataclasses
import hashlib
import json
import pathlib

import cv2
import numpy as np

LEAVES = ("person", "car", "truck", "bus", "motorcycle", "bicycle", "dog", "cat", "bird", "other_animal", "none")
# Sources whose stated licence permits a model that is given away, and those that only measure.
CLEAN = ("highway", "roadcam", "icctv", "coco", "photos", "free")
# Recordings of fixed cameras: few groups, dealt out in turn. The other sources are split by chance.
RECORDED = ("roadcam", "icctv", "pedestrians", "aerial")
DEAL = ("train", "test", "train", "validation", "train", "train", "test", "train", "train", "validation")
# From this likeness on two pictures are of the same scene.
LIKENESS = {"roadcam": 0.6, "icctv": 0.6, "pedestrians": 0.6, "aerial": 0.6}
OTHER_LIKENESS = 0.7
SMALL_GROUP = 10
TEACHER_IS_SURE = 0.5
TEACHER_MAY_BE_RIGHT = 0.15


@dataclasses.dataclass
class Object:
    """A labelled box: left, top, right, bottom in pixels. `drawn`: by a person, not by the teacher."""

    label: str
    box: tuple
    drawn: bool


@dataclasses.dataclass
class Picture:
    """A picture without its black borders."""

    file: str
    source: str
    rgb: np.ndarray
    objects: list
    blocked: list
    group: str = ""
    split: str = ""


def load(data, photos, photo_boxes, coco_boxes, aerial_boxes, free=None):
    """Returns all pictures, with groups and splits. The boxes are files written by teacher.py."""
    again = {f"coco/{line['file']}": line for line in _lines(coco_boxes)}
    again |= {f"aerial/{line['file']}": line for line in _lines(aerial_boxes)}
    pictures = [_labelled(pathlib.Path(data), line, again) for line in _lines(pathlib.Path(data) / "labels.jsonl")]
    pictures += [_photo(pathlib.Path(photos), line) for line in _lines(photo_boxes)]
    for source in sorted({p.source for p in pictures}):
        _split([p for p in pictures if p.source == source], source)
    if free:
        pictures += [_free_photo(*entry) for entry in free_files(free) if entry[0].suffix == ".jpg"]
    return pictures


# Animals that are neither dogs, cats and birds nor like any that a camera in a garden or a field sees.
NO_ANIMALS = (
    "fish", "cichlid", "discus", "shark", "manta", "newf", "collaris", "blueking", "barred", "crab", "dolphin",
    "narwhal", "bee.", "butterfly", "caterpillar", "cham", "crocodile", "slug", "woodlouse", "fly", "groper", "trout",
    "lobster", "mantis", "hornet", "iguana", "wrasse", "orca", "seahorse", "shrimp", "whale", "xanthia", "grasshopper",
    "_f0", "_f1", "sea_lion", "dragon", "frog",
)  # fmt: skip
# Things of the free collections that are no things of a camera's scene, or vehicles, or show people.
NO_THINGS = ("747", "f22", "plane", "explosion", "poo", "roll-call", "cementmixer", "tractor", "rubberduck", "gcompris_sea")


def free_files(folder):
    """Returns [(file, label, licence)] of the folder's SOURCES.tsv whose licence is stated."""
    out = []
    for line in (pathlib.Path(folder) / "SOURCES.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        name, _, _, _, licence = line.split("\t")[:5]
        label, file = name.split("/")
        unfit = NO_ANIMALS if label == "other_animal" else NO_THINGS if label == "none" else ()
        if label in LEAVES and "not stated" not in licence and not any(part in file.lower() for part in unfit):
            out.append((pathlib.Path(folder) / name, label, licence))
    return out


def credits(folder):
    """The table of who is to be credited for the free pictures, as tab-separated lines."""
    rows = (folder / "SOURCES.tsv").read_text(encoding="utf-8").splitlines()[1:]
    origin = {row.split("\t")[0]: row.split("\t") for row in rows}
    counts = {}
    for file, label, licence in free_files(folder):
        _, package, _, author, _ = origin[f"{label}/{file.name}"][:5]
        key = package, author.removesuffix(" (3D model)"), licence
        counts[key] = counts.get(key, 0) + 1
    lines = ["\t".join((*key, str(count))) for key, count in sorted(counts.items())]
    return "\n".join(["package\tauthor\tlicence\tpictures", *lines]) + "\n"


def _free_photo(file, label, _licence):
    """A photo under a free licence that shows one thing. All of them are for training."""
    rgb = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    ratio = min(1, 320 / max(rgb.shape[:2]))
    rgb = cv2.resize(rgb, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    height, width = rgb.shape[:2]
    whole = (0.06 * width, 0.06 * height, 0.94 * width, 0.94 * height)
    name = f"free/{file.parent.name}/{file.name}"
    return Picture(name, "free", rgb, [Object(label, whole, True)], [(0, 0, width, height)], name, "train")


def free_cutouts(folder):
    """Returns label -> RGBA cut-outs, at most 160 pixels a side."""
    out = {}
    for file, label, _ in free_files(folder):
        rgba = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if file.suffix != ".png" or rgba is None or rgba.ndim < 3 or rgba.shape[2] != 4 or rgba[..., 3].mean() > 250:
            continue
        rows, columns = (np.flatnonzero(rgba[..., 3].max(axis=axis) > 40) for axis in (1, 0))
        rgba = cv2.cvtColor(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], cv2.COLOR_BGRA2RGBA)
        ratio = min(1, 160 / max(rgba.shape[:2]))
        out.setdefault(label, []).append(cv2.resize(rgba, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA))
    return out


def _lines(file):
    return [json.loads(line) for line in pathlib.Path(file).read_text(encoding="utf-8").splitlines()]


def _corners(box):
    left, top, width, height = box
    return (left, top, left + width, top + height)


def iou(a, b):
    """Intersection over union of two boxes."""
    common = overlap(a, b)
    return common / (area(a) + area(b) - common + 1e-9)


def overlap(a, b):
    """The common area of two boxes."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def area(box):
    """The area of a box."""
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def _labelled(data, line, again):
    source = line["file"].split("/")[0]
    rgb = cv2.cvtColor(cv2.imread(str(data / line["file"])), cv2.COLOR_BGR2RGB)
    width, height = line["size"]
    drawn = line.get("objects") or []
    teacher = again.get(line["file"], line).get("teacher") or []
    annotated = set(line.get("annotated") or [])
    # Some COCO pictures have boxes in pixels of the full-size picture: these boxes are worthless.
    if any(o["box"][0] + o["box"][2] > width + 2 or o["box"][1] + o["box"][3] > height + 2 for o in drawn):
        drawn, annotated = [], set()
    objects = [Object(o["label"], _corners(o["box"]), True) for o in drawn if o["label"] in LEAVES]
    blocked = [_corners(o["box"]) for o in drawn]
    for found in teacher:
        box = _corners(found["box"])
        if found["score"] >= TEACHER_MAY_BE_RIGHT:
            blocked.append(box)
        label = _teacher_label(found)
        known = [o for o in objects if o.drawn and iou(o.box, box) > 0.5]
        if label and not known and label not in annotated and found["score"] >= TEACHER_IS_SURE:
            if line.get("photo_of") and label in ("dog", "cat", "other_animal"):
                label = line["photo_of"][0]
            objects.append(Object(label, box, False))
    # A tie is a part of a person, a saddle one of a horse.
    ours = [_corners(o["box"]) for o in drawn] + [_corners(f["box"]) for f in teacher if _teacher_label(f) in LEAVES[:-1]]
    objects = [o for o in objects if o.label != "none" or all(overlap(o.box, b) < 0.1 * area(o.box) for b in ours)]
    # In changed copies that are nearly black or white nobody can tell what is in a box.
    objects = [o for o in objects if contrast(rgb, o.box) > 7]
    if line.get("photo_of"):
        # Where the teacher does not see the animal clearly, a box with any animal's label and a low score
        # does.
        (label,) = line["photo_of"]
        if not any(o.label == label for o in objects):
            weak = [f for f in teacher if f["label"] in ("dog", "cat", "bird", "other") and f["score"] >= 0.25]
            if weak:
                objects.append(Object(label, _corners(max(weak, key=lambda f: f["score"])["box"]), False))
    return trimmed(Picture(line["file"], source, rgb, objects, blocked))


def contrast(rgb, box):
    left, top, right, bottom = (max(0, int(v)) for v in box)
    piece = rgb[top : max(bottom, top + 1), left : max(right, left + 1)]
    return piece.mean(axis=2).std() if piece.size else 0


def _teacher_label(found):
    """The leaf of a teacher's box, or None if its class is unknown or lies between the leaves."""
    if found["label"] != "other":
        return found["label"]
    if found.get("coco") in ("horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"):
        return "other_animal"
    return None if found.get("coco") in (None, "train", "boat", "airplane", "teddy bear") else "none"


def _photo(folder, line):
    """An ImageNet photo. Its class is the number in its name."""
    rgb = cv2.cvtColor(cv2.imread(str(folder / line["file"])), cv2.COLOR_BGR2RGB)
    height, width = rgb.shape[:2]
    label = imagenet_leaf(int(line["file"][:4]))
    objects, blocked = [], []
    for found in line["teacher"]:
        box = _corners(found["box"])
        if found["score"] >= TEACHER_MAY_BE_RIGHT:
            blocked.append(box)
        if found["label"] == "person" and found["score"] >= TEACHER_IS_SURE:
            objects.append(Object("person", box, False))
    people = [f for f in line["teacher"] if f["label"] == "person"]
    whole = (0.08 * width, 0.08 * height, 0.92 * width, 0.92 * height)
    if label == "none":
        # Nothing of ours may be in it, not even perhaps.
        if not any(f["label"] != "other" or _teacher_label(f) == "other_animal" for f in line["teacher"]):
            objects.append(Object("none", whole, True))
    elif label:
        kind = {"dog", "cat", "bird", "other"} if label in LEAVES[6:10] else {label, "car", "truck", "bus"}
        boxes = [f for f in line["teacher"] if f["label"] in kind and f["score"] >= 0.3]
        box = _corners(max(boxes, key=lambda f: f["score"])["box"]) if boxes else whole
        if boxes or not people:
            objects.append(Object(label, box, True))
    blocked.append((0, 0, width, height))
    return Picture(f"photos/{line['file']}", "photos", rgb, objects, blocked)


VEHICLES = {
    436: "car", 468: "car", 656: "car", 734: "car", 654: "bus", 874: "bus", 864: "truck", 670: "motorcycle",
    444: "bicycle", 818: None,
}  # fmt: skip
# Neither one of the leaves nor certainly none of them: other vehicles, toys, carts, people's occupations.
UNCLEAR = {
    408, 428, 450, 466, 484, 510, 538, 554, 586, 612, 660, 664, 690, 694, 704, 724, 780, 802, 814, 820, 828, 856,
    866, 870, 880, 982, 850,
}  # fmt: skip


def imagenet_leaf(number):
    """The leaf of an ImageNet class, or None if it is unclear."""
    if number in VEHICLES:
        return VEHICLES[number]
    if 151 <= number <= 268:
        return "dog"
    if 281 <= number <= 285:
        return "cat"
    if 7 <= number <= 24 or 80 <= number <= 100 or 127 <= number <= 146:
        return "bird"
    if 269 <= number <= 299 or 330 <= number <= 388 or 101 <= number <= 106:
        return "other_animal"
    # Fish, reptiles, insects, sea animals.
    if number < 398 or number in UNCLEAR:
        return None
    return "none"


def trimmed(picture):
    """Cuts off black borders, which pictures that were made square have."""
    if picture.source not in ("highway", "vehicles"):
        return picture
    grey = picture.rgb.max(axis=2)
    rows, columns = (np.flatnonzero((grey > 24).mean(axis=axis) > 0.02) for axis in (1, 0))
    if len(rows) < 32 or len(columns) < 32:
        return picture
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1

    def moved(box):
        x0, y0, x1, y1 = box[0] - left, box[1] - top, box[2] - left, box[3] - top
        return (max(x0, 0), max(y0, 0), min(x1, right - left), min(y1, bottom - top))

    picture.rgb = np.ascontiguousarray(picture.rgb[top:bottom, left:right])
    picture.objects = [Object(o.label, moved(o.box), o.drawn) for o in picture.objects]
    picture.blocked = [moved(box) for box in picture.blocked]
    return picture


def likeness_features(rgb):
    """A unit vector of where edges are: alike for pictures of one scene, whatever moves in it or lights it."""
    grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    grey = cv2.createCLAHE(4, (4, 4)).apply(grey).astype(np.float32)
    parts = []
    for dx, dy in ((1, 0), (0, 1)):
        edges = cv2.GaussianBlur(np.sqrt(np.abs(cv2.Sobel(grey, cv2.CV_32F, dx, dy))), (0, 0), 1.5)[::2, ::2]
        parts.append((edges - edges.mean()).ravel())
    vector = np.concatenate(parts)
    return vector / (np.linalg.norm(vector) + 1e-6)


def _components(linked):
    """Labels the connected components of a boolean matrix."""
    labels = np.full(len(linked), -1)
    for start in range(len(linked)):
        if labels[start] >= 0:
            continue
        labels[start], stack = start, [start]
        while stack:
            for neighbour in np.flatnonzero(linked[stack.pop()] & (labels < 0)):
                labels[neighbour] = start
                stack.append(neighbour)
    return labels


def _split(pictures, source):
    """Sets group and split of the pictures of one source."""
    features = np.stack([likeness_features(p.rgb) for p in pictures])
    mirrored = np.stack([likeness_features(p.rgb[:, ::-1]) for p in pictures])
    likeness = np.maximum(features @ features.T, features @ mirrored.T)
    labels = _components(likeness > LIKENESS.get(source, OTHER_LIKENESS))
    if source in ("roadcam", "icctv"):
        # Strongly changed copies fall out of their camera's group: they join the most similar large group.
        sizes = np.bincount(labels, minlength=len(labels))[labels]
        for i in np.flatnonzero(sizes < SMALL_GROUP):
            labels[i] = labels[np.where(sizes >= SMALL_GROUP, likeness[i], -1).argmax()]
    order = sorted(set(labels), key=lambda label: (-(labels == label).sum(), label))
    for rank, label in enumerate(order):
        members = [p for p, its in zip(pictures, labels) if its == label]
        group = min(p.file for p in members)
        chance = hashlib.sha256(group.encode()).digest()[0] / 256
        by_chance = "test" if chance < 0.2 else "validation" if chance < 0.3 else "train"
        for p in members:
            p.group = group
            p.split = DEAL[rank % len(DEAL)] if source in RECORDED else by_chance
