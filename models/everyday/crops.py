"""Cuts squares from the pictures as the daemon cuts them around what moves, for training and for measuring.

`Crops.sample` draws an endless variety for training. `held_out` lists fixed crops for measuring. Kinds:
`whole` (a box), `rider` (a person on a two-wheeler), `part` (a piece of a person: head, legs, arm, half), `pasted` (a cut-out object before another
background), `object` (another thing), `background`, and `drawn` (see falsemotion.py); the last three are
`none`.
"""

import collections
import dataclasses

import cv2
import numpy as np
from PIL import Image

from everyday import falsemotion
from everyday.augment import augment
from everyday.pictures import LEAVES, area, iou, overlap

# What the daemon adds on each side of a box, as a share of its longer side (src/vision/rect.rs).
MARGIN = 0.15
LEAST_TRAINED, LEAST_MEASURED = 14, 24
PARTED = 48
# So many people are turned on their side: in the pictures nearly all of them stand.
LYING = 0.12
# How often a label is drawn in training.
SHARES = {
    "person": 0.27, "car": 0.09, "truck": 0.055, "bus": 0.055, "motorcycle": 0.065, "bicycle": 0.03, "dog": 0.055,
    "cat": 0.05, "bird": 0.03, "other_animal": 0.03, "none": 0.30,
}  # fmt: skip
# How often a cut-out is pasted before another background instead of cutting a box.
PASTED = collections.defaultdict(
    lambda: 0.2, {"person": 0.25, "dog": 0.25, "cat": 0.25, "bird": 0.3, "other_animal": 0.3}
)


@dataclasses.dataclass
class Crop:
    """A fixed crop. `side`: the longer side of its box in pixels of the picture, before the margin."""

    label: str
    kind: str
    source: str
    side: float
    rgb: np.ndarray


def square_within(box, margin, width, height):
    """The square around a box, moved into the picture, cut if it is larger (Rect::square_within)."""
    side = max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * margin)
    out = []
    for low, high, size in ((box[0], box[2], width), (box[1], box[3], height)):
        length = min(side, size)
        start = min(max((low + high - length) / 2, 0), size - length)
        out.append((start, start + length))
    (left, right), (top, bottom) = out
    return left, top, right, bottom


def cut(rgb, box, margin, size):
    """The crop of a box at the network's input size, resized with the daemon's filter."""
    height, width = rgb.shape[:2]
    left, top, right, bottom = square_within(box, margin, width, height)
    x, y = int(left), int(top)
    piece = Image.fromarray(np.ascontiguousarray(rgb[y : int(np.ceil(bottom)), x : int(np.ceil(right))]))
    return np.asarray(piece.resize((size, size), Image.HAMMING, box=(left - x, top - y, right - x, bottom - y)))


def longer_side(box):
    """The longer side of a box."""
    return max(box[2] - box[0], box[3] - box[1])


def part_of(box, random):
    """The box of a piece of a person that is seen alone."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    kind = random.integers(5)
    if height < 1.2 * width or kind == 0:
        # Half of the person, cut in any direction.
        share = random.uniform(0.4, 0.65)
        return [
            (left, top, left + share * width, bottom), (right - share * width, top, right, bottom),
            (left, top, right, top + share * height), (left, bottom - share * height, right, bottom),
        ][random.integers(4)]  # fmt: skip
    if kind == 1:
        middle = left + width * random.uniform(0.35, 0.65)
        reach = min(width, 0.35 * height) / 2
        return (middle - reach, top, middle + reach, top + height * random.uniform(0.15, 0.28))
    if kind == 2:
        return (left, bottom - height * random.uniform(0.3, 0.5), right, bottom)
    if kind == 3:
        return (left, top, right, top + height * random.uniform(0.35, 0.6))
    # An arm or a hand at the side of the body.
    side, reach = random.integers(2), max(0.55 * width, 0.15 * height)
    start = left if side else right - reach
    middle = top + height * random.uniform(0.3, 0.6)
    return (start, middle - reach / 2, start + reach, middle + reach / 2)


def background_box(picture, random):
    """A box in whose square nothing is that anybody has boxed, or None."""
    height, width = picture.rgb.shape[:2]
    for _ in range(12):
        side = np.exp(random.uniform(np.log(0.07), np.log(0.6))) * max(width, height)
        tall = np.exp(random.uniform(-0.9, 0.9))
        w, h = side * min(1, tall), side * min(1, 1 / tall)
        if w >= width or h >= height or max(w, h) < 12:
            continue
        x, y = random.uniform(0, width - w), random.uniform(0, height - h)
        square = square_within((x, y, x + w, y + h), MARGIN, width, height)
        smaller = [overlap(square, b) / max(1, min(area(b), area(square))) for b in picture.blocked]
        if max(smaller, default=0) < 0.03:
            return (x, y, x + w, y + h)
    return None


def has_background(picture):
    """Whether a picture is good for backgrounds: its people have been searched, by eyes or by the teacher."""
    if picture.source == "roadcam":
        # Some have no boxes, or not all: the teacher sees vehicles that are not boxed.
        return picture.objects and all(any(iou(o.box, b) > 0.3 for o in picture.objects) for b in picture.blocked)
    return picture.source in ("highway", "icctv", "coco", "vehicles", "aerial")


def ambiguous(picture, thing):
    """A person's box that shows a two-wheeler as much."""
    wheeled = (o.box for o in picture.objects if o.label in ("motorcycle", "bicycle"))
    return thing.label == "person" and any(iou(thing.box, box) > 0.5 for box in wheeled)


def rides(picture, thing):
    """Whether a person's box shows much of a two-wheeler: either name is right."""
    wheeled = (o.box for o in picture.objects if o.label in ("motorcycle", "bicycle"))
    return thing.label == "person" and any(overlap(thing.box, box) > 0.3 * area(thing.box) for box in wheeled)


def cutout(rgb, box):
    """The object in a box as RGBA, cut out by GrabCut, or None if that fails."""
    height, width = rgb.shape[:2]
    grown = [v + d for v, d in zip(box, np.array([-1, -1, 1, 1]) * 0.12 * longer_side(box))]
    x0, y0, x1, y1 = (int(v) for v in (max(0, grown[0]), max(0, grown[1]), min(width, grown[2]), min(height, grown[3])))
    ratio = min(1, 160 / max(x1 - x0, y1 - y0))
    piece = cv2.resize(rgb[y0:y1, x0:x1], None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    inner = [int(round(v * ratio)) for v in (box[0] - x0, box[1] - y0, box[2] - box[0], box[3] - box[1])]
    if min(piece.shape[:2]) < 12 or min(inner[2:]) < 8 or inner[2] * inner[3] > 0.97 * piece.shape[0] * piece.shape[1]:
        return None
    mask = np.zeros(piece.shape[:2], np.uint8)
    models = np.zeros((2, 1, 65))
    try:
        cv2.grabCut(piece[..., ::-1].copy(), mask, inner, models[0], models[1], 4, cv2.GC_INIT_WITH_RECT)
    except cv2.error:
        return None
    alpha = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(alpha)
    if count < 2:
        return None
    largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    if not 0.25 < stats[largest, cv2.CC_STAT_AREA] / (inner[2] * inner[3]) < 0.92:
        return None
    alpha = cv2.GaussianBlur((labels == largest) * np.uint8(255), (0, 0), 0.7)
    rows, columns = (np.flatnonzero(alpha.max(axis=axis) > 40) for axis in (1, 0))
    kept = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.dstack([piece, alpha])[kept]


def cutouts(pictures, most=350):
    """Returns split -> label -> RGBA cut-outs of well visible objects; `none`: other things."""
    found = {}
    for p in pictures:
        for o in p.objects:
            others = [q.box for q in p.objects if q is not o and overlap(q.box, o.box) > 0.15 * area(o.box)]
            shelf = found.setdefault(p.split, {}).setdefault(o.label, [])
            if others or longer_side(o.box) < 56 or len(shelf) >= most * (2 if o.label == "person" else 1):
                continue
            rgba = cutout(p.rgb, o.box)
            if rgba is not None:
                shelf.append(rgba)
    return found


def paste(square, rgba, random):
    """A cut-out before a background, about as light as it."""
    n = len(square)
    ratio = n / (1 + 2 * random.uniform(0.02, 0.4)) / max(rgba.shape[:2])
    rgba = cv2.resize(rgba, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
    h, w = rgba.shape[:2]
    x, y = (int(np.clip((n - v) / 2 + random.normal(0, 0.05) * n, -0.15 * v, n - 0.85 * v)) for v in (w, h))
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, n), min(y + h, n)
    piece = rgba[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32)
    under = square[y0:y1, x0:x1].astype(np.float32)
    alpha = piece[..., 3:] / 255
    tone = np.clip((under.mean() + 8) / ((piece[..., :3] * alpha).sum() / (3 * alpha.sum() + 1) + 8), 0.3, 1.8)
    image = square.copy()
    lit = np.clip(piece[..., :3] * tone ** random.uniform(0, 0.6), 0, 255)
    image[y0:y1, x0:x1] = (under * (1 - alpha) + lit * alpha).astype(np.uint8)
    return image


class Crops:
    """The examples of some sources and one split, and random training crops of them."""

    def __init__(self, pictures, shelves):
        self.pictures = pictures
        self.shelves = shelves
        self.fields = [p for p in pictures if has_background(p)]
        by_source = collections.Counter(p.source for p in self.fields)
        share = np.array([by_source[p.source] ** -0.5 for p in self.fields])
        self.field_share = np.cumsum(share / share.sum())
        self.things = {}
        for label in LEAVES:
            things = [
                (p, o) for p in pictures for o in p.objects
                if o.label == label and longer_side(o.box) >= LEAST_TRAINED and not ambiguous(p, o)
            ]  # fmt: skip
            if things:
                counts = collections.Counter(p.source for p, _ in things)
                weight = np.array([counts[p.source] ** -0.4 for p, _ in things])
                self.things[label] = things, np.cumsum(weight / weight.sum())

    def background(self, random, size):
        """A square of background."""
        while True:
            picture = self.fields[np.searchsorted(self.field_share, random.random() * 0.999999)]
            if (box := background_box(picture, random)) is not None:
                return cut(picture.rgb, box, MARGIN, size)

    def sample(self, label, random, size):
        """A random crop of this label, augmented."""
        other = self.background(random, size) if random.random() < 0.3 else None
        if label == "none":
            square = self._none(random, size)
        elif self.shelves.get(label) and random.random() < PASTED[label]:
            shelf = self.shelves[label]
            rgba = shelf[random.integers(len(shelf))]
            if label == "person" and random.random() < LYING:
                rgba = np.rot90(rgba, random.choice([1, 3]))
            square = paste(self.background(random, size), rgba, random)
        else:
            square = self._box(label, random, size)
        return augment(square, random, square[::-1] if other is None else other)

    def _box(self, label, random, size):
        things, share = self.things[label]
        picture, thing = things[np.searchsorted(share, random.random() * 0.999999)]
        box = thing.box
        side = longer_side(box)
        if label == "person" and side >= PARTED and random.random() < 0.35:
            box = part_of(box, random)
        elif random.random() < 0.15:
            # Only a piece of it moves, or the rest is beyond the edge.
            edges = list(box)
            edge, lost = random.integers(4), random.uniform(0.1, 0.4)
            edges[edge] += lost * (box[(edge + 2) % 4] - box[edge])
            box = tuple(edges)
        shift = random.normal(0, 0.06, 2) * longer_side(box)
        box = (box[0] + shift[0], box[1] + shift[1], box[2] + shift[0], box[3] + shift[1])
        margin = random.uniform(0, 0.35) if random.random() < 0.88 else random.uniform(0.35, 0.7)
        square = cut(picture.rgb, box, margin, size)
        return np.rot90(square, random.choice([1, 3])) if label == "person" and random.random() < LYING else square

    def _none(self, random, size):
        kind = random.random()
        if kind < 0.22 and "none" in self.things:
            return self._box("none", random, size)
        square = self.background(random, size)
        if kind < 0.45:
            return square
        if kind < 0.58 and self.shelves.get("none"):
            shelf = self.shelves["none"]
            return paste(square, shelf[random.integers(len(shelf))], random)
        return falsemotion.draw(square, random, self.background(random, size))[1]


def measurable(picture, thing):
    """Whether a box is good enough to measure with: drawn, or the teacher's where no other can be had."""
    if picture.source == "catdog":
        return thing.label in ("dog", "cat")
    return thing.drawn or thing.label in ("bicycle", "bird", "none")


def held_out(pictures, size, seed=0, most=500):
    """Fixed crops of all kinds, cut with the daemon's margin, at most `most` of a source, label and kind."""
    random, out = np.random.default_rng(seed), []
    jobs = collections.defaultdict(list)
    for p in pictures:
        for o in filter(lambda thing: measurable(p, thing), p.objects):
            if longer_side(o.box) < LEAST_MEASURED or min(o.box[2] - o.box[0], o.box[3] - o.box[1]) < 8:
                continue
            kind = "object" if o.label == "none" else "rider" if rides(p, o) else "whole"
            jobs[p.source, o.label, kind].append((p, o.box))
            if o.label == "person" and longer_side(o.box) >= 64 and o.drawn and not ambiguous(p, o):
                jobs[p.source, "person", "part"].append((p, part_of(o.box, random)))
        if has_background(p):
            for kind in ("background", "background", "drawn", "drawn", "drawn"):
                if (box := background_box(p, random)) is not None:
                    jobs[p.source, "none", kind].append((p, box))
    for (source, label, kind), list_ in sorted(jobs.items()):
        order = random.permutation(len(list_))[:most]
        squares = [cut(list_[i][0].rgb, list_[i][1], MARGIN, size) for i in order]
        for place, i in enumerate(order):
            name, square = kind, squares[place]
            if kind == "drawn":
                name, square = falsemotion.draw(square, random, squares[random.integers(len(squares))])
                name = "drawn " + name
            out.append(Crop(label, name, source, longer_side(list_[i][1]), square))
    return out
