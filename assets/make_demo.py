#!/usr/bin/env python3
"""Generates `demo.mp4` and `demo.truth.json`: a simulated fixed camera that sees a cat, a cup and a
motorcycle.

    python assets/make_demo.py            # writes both files next to this script
    python assets/make_demo.py --stills   # also writes one still per second to build/stills

The output is reproducible: all parameters are fixed and the encoder runs on one thread, so the same package
versions give the same bytes. scene.py holds the code for cutouts, compositing and encoding.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image

from scene import HEIGHT, WIDTH, Visit, background, compose, encode, load_cutouts, report, truth

HERE = pathlib.Path(__file__).resolve().parent
FPS, SECONDS = 15, 30
FRAMES = FPS * SECONDS
# Noise of a small sensor in good light, in 8-bit luma levels.
NOISE_SIGMA = 1.5
# Keeps some of the noise and the file below 1.5 MB.
CRF = "31.5"

VISITS = [
    Visit("cat", 680, [(0.3, -560, 380), (1.4, 500, 380), (6.2, 500, 380), (7.5, 1840, 380)], (1.7, 6.0)),
    Visit("cup", 690, [(8.2, 1840, 370), (9.4, 640, 370), (12.6, 640, 370), (13.8, -560, 370)], (9.7, 12.4)),
    Visit("motorcycle", 640, [(14.6, -620, 380), (15.8, 640, 380), (19.0, 640, 380), (20.2, 1900, 380)], (16.1, 18.8)),
    Visit("cat", 190, [(21.0, -160, 250), (27.2, 1440, 270)]),
    Visit("motorcycle", 200, [(22.0, 1450, 390), (26.0, -170, 400)], mirrored=True),
    Visit("cup", 150, [(22.6, 1380, 590), (24.2, 900, 590), (26.8, 900, 590), (28.2, 1380, 590)]),
]


def frames():
    """Yields (RGB frame, {visit index: box clipped to the frame}) for each frame."""
    cutouts, empty, noise = load_cutouts(), background(), np.random.default_rng(2026)
    scaled = [visit.image(cutouts) for visit in VISITS]
    for number in range(FRAMES):
        frame = empty.copy()
        boxes = compose(frame, VISITS, scaled, number / FPS)
        grain = noise.normal(0, NOISE_SIGMA, (HEIGHT, WIDTH, 1)).astype(np.float32)
        yield np.clip(np.rint(np.asarray(frame, np.float32) + grain), 0, 255).astype(np.uint8), boxes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stills", action="store_true", help="also write one still per second to build/stills")
    arguments = parser.parse_args()
    boxes = []

    def images():
        for number, (image, visible) in enumerate(frames()):
            boxes.append(visible)
            if arguments.stills and number % FPS == 0:
                folder = pathlib.Path("build/stills")
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{number // FPS:02}.png")
            yield image

    clip, size = HERE / "demo.mp4", (WIDTH, HEIGHT)
    comment = "Photographs CC0 or public domain; see NOTICE"
    encode(clip, images(), size, FPS, CRF, "slow", "camfire demo", comment)
    (HERE / "demo.truth.json").write_text(truth(clip.name, size, FPS, VISITS, boxes))
    report(clip)


if __name__ == "__main__":
    main()
