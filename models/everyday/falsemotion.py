"""Draws what camfire's motion detection finds although nobody is there: label `none`.

Every function takes a square of real background (uint8, n x n x 3), a random generator and a second square of
background, and returns a new square. They are crude on purpose and vary a lot: the network must not learn
that everything that stands out from the ground is a person.
"""

import cv2
import numpy as np


def _mask(n, polygons, soft):
    """A mask 0..1 of filled polygons (points in units of n), with edges blurred by `soft` pixels."""
    mask = np.zeros((n, n), np.uint8)
    for points in polygons:
        cv2.fillPoly(mask, [np.int32(np.asarray(points) * n * 16)], 255, cv2.LINE_AA, shift=4)
    return (cv2.GaussianBlur(mask, (0, 0), soft) if soft > 0.3 else mask).astype(np.float32)[..., None] / 255


def _blob(random, centre, radii, points=12, rough=0.35):
    """A random closed outline around a centre."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False) + random.uniform(0, 6)
    radius = 1 + random.uniform(-rough, rough, points)
    x, y = radii[0] * radius * np.cos(angles), radii[1] * radius * np.sin(angles)
    turn = random.uniform(0, np.pi)
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1) + centre


def _finish(image):
    return np.clip(image, 0, 255).astype(np.uint8)


def _colour(random):
    """A colour of things: often grey or brown, sometimes vivid."""
    hue, saturation = random.uniform(0, 180), random.choice([10, 60, 140, 220]) * random.uniform(0.3, 1)
    pixel = np.uint8([[[hue, saturation, random.uniform(25, 245)]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def shadow(square, random, _other):
    """A soft shadow on the ground, long or round."""
    n = len(square)
    outlines = [
        _blob(random, random.uniform(0.3, 0.7, 2), (random.uniform(0.05, 0.25), random.uniform(0.15, 0.5)))
        for _ in range(random.integers(1, 4))
    ]
    mask = _mask(n, outlines, n * random.uniform(0.005, 0.08))
    return _finish(square * (1 - mask * random.uniform(0.2, 0.75)))


def light(square, random, _other):
    """A lit spot, a lamp or a headlight's cone, often overexposed."""
    n = len(square)
    y, x = np.mgrid[:n, :n].astype(np.float32) / n
    image = square.astype(np.float32) * random.uniform(0.3, 1.0)
    for _ in range(random.integers(1, 4)):
        cx, cy = random.uniform(0.2, 0.8, 2)
        rx, ry = np.exp(random.uniform(np.log(0.03), np.log(0.5), 2))
        distance = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
        tint = np.array([1, random.uniform(0.75, 1), random.uniform(0.5, 1)], np.float32)
        shape = np.exp(-distance) if random.random() < 0.6 else 1 / (1 + distance**2)
        image += shape[..., None] * tint * random.uniform(60, 400)
    if random.random() < 0.3:
        image += 255 * random.uniform(0.3, 1) * (np.abs(y - random.uniform(0.3, 0.7)) < 0.01)[..., None]
    return _finish(image)


def foliage(square, random, _other):
    """Leaves and branches before the background."""
    n = len(square)
    image = square.copy()
    base = np.array([random.uniform(20, 110), random.uniform(50, 150), random.uniform(10, 70)])
    if random.random() < 0.2:
        base = base[[1, 0, 2]]
    middle, spread = random.uniform(0.25, 0.75, 2), random.uniform(0.15, 0.4)
    for _ in range(random.integers(1, 6)):
        ends = (random.normal(middle, spread, (2, 2)) * n).astype(int)
        cv2.line(image, ends[0], ends[1], (base * 0.5).tolist(), int(random.integers(1, 4)), cv2.LINE_AA)
    for _ in range(random.integers(30, 220)):
        x, y = (random.normal(middle, spread) * n).astype(int)
        size = n * random.uniform(0.01, 0.06)
        colour = np.clip(base * random.uniform(0.4, 1.7), 0, 255).tolist()
        axes = (int(size) + 1, int(size * random.uniform(0.3, 0.8)) + 1)
        cv2.ellipse(image, (int(x), int(y)), axes, random.uniform(0, 360), 0, 360, colour, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, 2.0))


def cloth(square, random, _other):
    """A curtain, flag, laundry or tarpaulin with folds."""
    n = len(square)
    y, x = np.mgrid[:n, :n].astype(np.float32) / n
    phase = x * random.uniform(4, 22) + random.uniform(0, 2) * np.sin(y * random.uniform(1, 6) + random.uniform(0, 6))
    folds = 0.5 + 0.5 * np.sin(phase * 2 + random.uniform(0, 6)) * random.uniform(0.3, 1)
    surface = _colour(random) * (0.5 + 0.6 * folds[..., None])
    if random.random() < 0.3:
        stripe = (np.sin((y if random.random() < 0.5 else x) * random.uniform(20, 80)) > 0)[..., None]
        surface = np.where(stripe, surface, 0.5 * surface + 0.5 * _colour(random))
    left, top = random.uniform(-0.1, 0.4, 2)
    right, bottom = random.uniform(0.55, 1.1, 2)
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) + random.normal(0, 0.04, (4, 2))
    mask = _mask(n, [corners], random.uniform(0, 2))
    return _finish(square * (1 - mask) + surface * mask)


def rain(square, random, _other):
    """Streaks of rain or flakes of snow near the lens, lit by the infrared lamp or not."""
    n = len(square)
    layer = np.zeros((n, n), np.uint8)
    slant, long = random.uniform(-0.5, 0.5), np.exp(random.uniform(np.log(0.01), np.log(0.6)))
    for _ in range(random.integers(1, 50)):
        x, y = random.uniform(-0.1, 1.1, 2) * n
        length = long * n * random.uniform(0.5, 1.5)
        end = (int(x + slant * length), int(y + length))
        cv2.line(layer, (int(x), int(y)), end, int(random.uniform(60, 255)), int(random.integers(1, 5)), cv2.LINE_AA)
    layer = cv2.GaussianBlur(layer, (0, 0), random.uniform(0.4, 2.5)).astype(np.float32)[..., None]
    return _finish(square * random.uniform(0.4, 1) + layer * random.uniform(0.4, 1.3))


def insect(square, random, _other):
    """An insect or a spider's thread near the lens: a blurred bright or dark spot, mostly in grey."""
    n = len(square)
    image = square.astype(np.float32) * random.uniform(0.3, 1.0)
    if random.random() < 0.7:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    middle = random.uniform(0.3, 0.7, 2)
    outlines = [_blob(random, middle, random.uniform(0.03, 0.2, 2), rough=0.2)]
    for _ in range(random.integers(0, 5)):
        outlines.append(_blob(random, middle + random.normal(0, 0.12, 2), random.uniform(0.02, 0.22, 2)))
    for _ in range(random.integers(0, 3)):
        a, b = random.uniform(0, 1, (2, 2))
        across = 0.004 * np.array([a[1] - b[1], b[0] - a[0]]) / (np.linalg.norm(a - b) + 1e-6)
        outlines.append([a - across, b - across, b + across, a + across])
    mask = _mask(n, outlines, n * random.uniform(0.005, 0.06)) * random.uniform(0.4, 1)
    tone = random.uniform(170, 255) if random.random() < 0.75 else random.uniform(0, 60)
    return _finish(image * (1 - mask) + tone * mask)


def exposure(square, random, other):
    """A step of the exposure, a reflection in a pane, or a change of what the ground looks like."""
    image = square.astype(np.float32)
    if random.random() < 0.6:
        image = image * (1 - (share := random.uniform(0.1, 0.5))) + other[:, ::-1].astype(np.float32) * share
    n = len(square)
    y, x = np.mgrid[:n, :n].astype(np.float32) / n - 0.5
    turn = random.uniform(0, 2 * np.pi)
    ramp = 1 / (1 + np.exp(-(x * np.cos(turn) + y * np.sin(turn)) * random.uniform(2, 60)))
    return _finish(image * (random.uniform(0.3, 1) + ramp[..., None] * random.uniform(0, 1.5)))


def seam(square, random, other):
    """Two backgrounds in one square: something large opened, closed or was taken away."""
    n = len(square)
    outline = _blob(random, random.uniform(0.3, 0.7, 2), random.uniform(0.1, 0.5, 2), int(random.integers(3, 9)), 0.2)
    mask = _mask(n, [outline], random.uniform(0, 4))
    return _finish(square * (1 - mask) + other * mask)


def noise(square, random, _other):
    """A dark or flat square in which little but noise and compression is left."""
    n = len(square)
    image = square.astype(np.float32)
    flat = cv2.resize(cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA), (n, n), interpolation=cv2.INTER_CUBIC)
    share = random.uniform(0.3, 1)
    image = (flat * share + image * (1 - share)) * random.uniform(0.05, 1) + random.uniform(0, 60)
    cell = int(random.integers(1, 9))
    grain = random.normal(0, random.uniform(2, 30), (n // cell + 1, n // cell + 1, 1 if random.random() < 0.5 else 3))
    grain = np.repeat(np.repeat(grain, cell, 0), cell, 1)[:n, :n]
    return _finish(image + grain)


def _shaded(n, random, colour, across):
    """A surface of one colour, lit from a side, perhaps with print on it."""
    ramp = (across - across.min()) / (np.ptp(across) + 1e-6)
    lit = random.uniform(0.5, 1.0) + random.uniform(-0.5, 0.5) * ramp + random.uniform(0, 0.4) * np.sin(ramp * np.pi)
    surface = colour * lit[..., None]
    if random.random() < 0.4:
        text = np.zeros((n, n), np.uint8)
        for _ in range(random.integers(1, 7)):
            place = (random.uniform(0.2, 0.6, 2) * n).astype(int)
            word = "".join(chr(random.integers(48, 91)) for _ in range(random.integers(1, 7)))
            cv2.putText(text, word, place, 0, n * random.uniform(0.002, 0.008), 255, int(random.integers(1, 4)))
        surface = np.where(text[..., None] > 0, _colour(random), surface)
    return surface


def box(square, random, _other):
    """A box, parcel, crate, bin or suitcase with two or three visible faces."""
    n = len(square)
    x0, x1 = 0.5 + np.array([-1, 1]) * random.uniform(0.12, 0.4)
    y0, y1 = 0.5 + np.array([-1, 1]) * random.uniform(0.12, 0.4)
    depth, rise = random.uniform(-0.25, 0.25), random.uniform(-0.15, 0.05)
    edge = x1 if depth > 0 else x0
    front = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    side = [[edge, y0], [edge + depth, y0 + rise], [edge + depth, y1 + rise], [edge, y1]]
    top = [[x0, y0], [x1, y0], [x1 + depth, y0 + rise], [x0 + depth, y0 + rise]]
    colour, y, x = _colour(random), *np.mgrid[:n, :n].astype(np.float32)
    image, soft = square.astype(np.float32), random.uniform(0, 1.5)
    for face, tone in ((side, random.uniform(0.4, 0.9)), (top, random.uniform(0.9, 1.3)), (front, 1.0)):
        mask = _mask(n, [face], soft)
        image = image * (1 - mask) + _shaded(n, random, colour * tone, x if face is not top else y) * mask
    if random.random() < 0.4:
        place, size = random.uniform(0.3, 0.6, 2), random.uniform(0.05, 0.25, 2)
        mask = _mask(n, [[place, place + size * [1, 0], place + size, place + size * [0, 1]]], soft)
        image = image * (1 - mask) + _colour(random) * mask
    return _finish(image)


def vessel(square, random, _other):
    """A bottle, can, cup, vase, cone or bucket: a body of revolution with cap and label."""
    n = len(square)
    high, wide = random.uniform(0.5, 0.85), random.uniform(0.08, 0.3)
    levels = np.linspace(0, 1, 24)
    neck, shoulder = random.uniform(0.2, 1.1), random.uniform(0.1, 0.45)
    widths = wide * np.interp(levels, [0, shoulder * 0.7, shoulder, 1], [neck, neck, 1, random.uniform(0.6, 1.1)])
    widths = cv2.GaussianBlur(widths[None], (0, 0), 1.2)[0]
    image, soft = square.astype(np.float32), random.uniform(0, 1.5)
    turn = random.normal(0, 0.15) if random.random() < 0.8 else random.uniform(0, 6)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    x = np.mgrid[:n, :n][1].astype(np.float32)

    def part(low, up, colour, strength):
        kept = (levels >= low) & (levels <= up)
        y = (levels[kept] - 0.5) * high
        points = np.concatenate([np.stack([-widths[kept], y], 1), np.stack([widths[kept], y], 1)[::-1]])
        mask = _mask(n, [points @ rotation.T + 0.5 + offset], soft) * strength
        return image * (1 - mask) + _shaded(n, random, colour, np.abs(x - n / 2)) * mask

    offset = random.normal(0, 0.05, 2)
    image = part(0, 1, _colour(random), random.uniform(0.5, 1))
    if random.random() < 0.7:
        image = part(random.uniform(0.3, 0.6), random.uniform(0.7, 0.95), _colour(random), 1)
    if random.random() < 0.6:
        image = part(0, random.uniform(0.06, 0.15), _colour(random), 1)
    if random.random() < 0.4:
        gleam = _mask(n, [_blob(random, (0.5 - wide / 2, 0.5), (0.01, high / 3), rough=0.1)], 1.5)
        image = image + gleam * random.uniform(40, 160)
    return _finish(image)


def furniture(square, random, _other):
    """A chair, table, trolley, ladder or rack made of bars and boards."""
    n = len(square)
    image = square.copy()
    colour, tone = _colour(random), random.uniform(0.5, 1.2)
    left, right, top, bottom = *np.sort(random.uniform(0.1, 0.9, 2)), *np.sort(random.uniform(0.08, 0.92, 2))
    for i in range(random.integers(3, 14)):
        if random.random() < 0.6:
            a, b = ([left, right][i % 2], top), ([left, right][i % 2] + random.normal(0, 0.05), bottom)
        else:
            level = random.uniform(top, bottom)
            a, b = (left, level), (right, level + random.normal(0, 0.03))
        a, b = (np.array([a, b]) * n).astype(int)
        shade = np.clip(colour * tone * random.uniform(0.6, 1.3), 0, 255).tolist()
        cv2.line(image, a, b, shade, int(n * random.uniform(0.008, 0.07)) + 1, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, 1.2))


def lump(square, random, other):
    """A bag, ball, heap, stone or cushion: a rounded body with the texture of another background."""
    n = len(square)
    radii = random.uniform(0.12, 0.4, 2)
    outline = _blob(random, 0.5 + random.normal(0, 0.05, 2), radii, int(random.integers(6, 16)), 0.15)
    mask = _mask(n, [outline], random.uniform(0.3, 2))
    y, x = np.mgrid[:n, :n].astype(np.float32)
    share = random.uniform(0, 0.8)
    surface = _shaded(n, random, _colour(random), y if random.random() < 0.6 else x) * (1 - share) + other * share
    ground = cv2.GaussianBlur(mask, (0, 0), n * 0.05)[..., None]
    return _finish(square * (1 - random.uniform(0, 0.5) * ground) * (1 - mask) + surface * mask)


KINDS = {
    "shadow": shadow, "light": light, "foliage": foliage, "cloth": cloth, "rain": rain, "insect": insect,
    "exposure": exposure, "seam": seam, "noise": noise, "box": box, "vessel": vessel, "furniture": furniture,
    "lump": lump,
}  # fmt: skip


def draw(square, random, other):
    """Returns (kind, square) of a random kind, sometimes two over each other."""
    kind = list(KINDS)[random.integers(len(KINDS))]
    square = KINDS[kind](square, random, other)
    if random.random() < 0.15:
        square = KINDS[list(KINDS)[random.integers(len(KINDS))]](square, random, other)
    return kind, square
