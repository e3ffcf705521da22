"""Changes a square as cameras do: small, dark, infrared, blurred, compressed, noisy, half hidden."""

import cv2
import numpy as np


def _small(image, random):
    """Seen by a far or small camera."""
    n = len(image)
    side = int(np.exp(random.uniform(np.log(20), np.log(min(90, n)))))
    down = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(down, (n, n), interpolation=[cv2.INTER_LINEAR, cv2.INTER_CUBIC][random.integers(2)])


def _blurred(image, random):
    """Out of focus, or moving."""
    n = len(image)
    if random.random() < 0.6:
        return cv2.GaussianBlur(image, (0, 0), n / 128 * random.uniform(0.5, 2.2))
    length = int(n / 128 * random.uniform(3, 11)) | 1
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), random.uniform(-30, 30), 1)
    return cv2.filter2D(image, -1, cv2.warpAffine(kernel, turn, (length, length)))


def _compressed(image, random):
    code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(12, 70))])[1]
    return cv2.imdecode(code, cv2.IMREAD_COLOR)


def _hidden(image, random, other):
    """A part is behind something else, or beyond the picture's edge and stretched."""
    n = len(image)
    image = image.copy()
    width = int(n * random.uniform(0.08, 0.35))
    turns = int(random.integers(4))
    image = np.ascontiguousarray(np.rot90(image, turns))
    image[:, :width] = other[:, :width] if random.random() < 0.7 else random.integers(0, 256, 3)
    return np.ascontiguousarray(np.rot90(image, -turns))


def _lit(image, random):
    """Brightness, contrast, gamma, tint; night; infrared."""
    x = image.astype(np.float32)
    kind = random.random()
    if kind < 0.18:
        # Infrared: grey, brightest in the middle, with strong contrast.
        weights = random.dirichlet([2, 2, 2]).astype(np.float32)
        x = np.repeat((x @ weights)[..., None], 3, axis=2)
        if random.random() < 0.4:
            x = 255 * (x / 255) ** random.uniform(0.5, 1.6) * random.uniform(0.5, 1.6)
    elif kind < 0.28:
        x = x * random.uniform(0.18, 0.6) * random.uniform([0.9] * 3, [1.05] * 3) + random.uniform(0, 12)
    elif kind < 0.65:
        x = (x - 128) * random.uniform(0.5, 1.45) + 128 + random.uniform(-45, 45)
    if random.random() < 0.25:
        x = x * random.uniform([0.85] * 3, [1.12] * 3)
    if random.random() < 0.15:
        x = 255 * (np.clip(x, 0, 255) / 255) ** random.uniform(0.55, 2.0)
    if random.random() < 0.3:
        grain = random.standard_normal(x.shape[:2] + (1 if random.random() < 0.5 else 3,), np.float32)
        x = x + grain * np.float32(random.uniform(2, 13))
    return np.clip(x, 0, 255).astype(np.uint8)


def augment(image, random, other, small=0.25):
    """Returns a changed copy of an n x n x 3 square. `other`: a square to hide parts with."""
    if random.random() < 0.5:
        image = image[:, ::-1]
    image = np.ascontiguousarray(image)
    if random.random() < 0.12:
        image = _hidden(image, random, other)
    if random.random() < 0.15:
        n = len(image)
        turn = cv2.getRotationMatrix2D((n / 2, n / 2), random.normal(0, 7), random.uniform(1, 1.1))
        image = cv2.warpAffine(image, turn, (n, n), borderMode=cv2.BORDER_REFLECT)
    if random.random() < small:
        image = _small(image, random)
    if random.random() < 0.2:
        image = _blurred(image, random)
    image = _lit(image, random)
    return _compressed(image, random) if random.random() < 0.3 else image
