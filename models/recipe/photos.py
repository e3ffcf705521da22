"""Loads photos for calibration and evaluation: files NNNN_name.jpg, where NNNN is the ImageNet class."""

import pathlib

import numpy as np
from PIL import Image

from recipe.network import SIZE


def load(folder, filter=Image.HAMMING):
    """Returns (classes, RGB photos N x 227 x 227 x 3 of uint8, names).

    Each photo is stretched to the input size with antialiasing, not cropped.
    """
    files = sorted(pathlib.Path(folder).glob("[0-9][0-9][0-9][0-9]_*.jpg"))
    if not files:
        raise SystemExit(f"{folder}: no photos named NNNN_name.jpg")
    images = [np.asarray(Image.open(f).convert("RGB").resize((SIZE, SIZE), filter)) for f in files]
    return np.array([int(f.name[:4]) for f in files]), np.stack(images), [f.name for f in files]
