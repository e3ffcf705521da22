"""Photos for calibration and judgement: a folder of NNNN_name.jpg, NNNN being the ImageNet class."""

import pathlib

import numpy as np
from PIL import Image

from recipe.network import SIZE


def load(folder, filter=Image.HAMMING):
    """(classes, RGB bytes N x 227 x 227 x 3, names): whole photos, stretched to the input, antialiased."""
    files = sorted(pathlib.Path(folder).glob("[0-9][0-9][0-9][0-9]_*.jpg"))
    if not files:
        raise SystemExit(f"{folder}: no photos named NNNN_name.jpg")
    pictures = [np.asarray(Image.open(f).convert("RGB").resize((SIZE, SIZE), filter)) for f in files]
    return np.array([int(f.name[:4]) for f in files]), np.stack(pictures), [f.name for f in files]
