#!/usr/bin/env python3
"""Generates `demo.mp4` and `demo.truth.json`: a simulated fixed camera that sees people, a car, a
cat, a motorcycle and a cup.

    python assets/make_demo.py            # writes both files next to this script
    python assets/make_demo.py --stills   # also writes one still per second to build/stills
    python assets/make_demo.py --small tests/data/demo-small.mp4  # only the same scene as a small clip

The output is reproducible: all parameters are fixed and the encoder runs on one thread, so the same package
versions give the same bytes. scene.py holds the code for cutouts, compositing and encoding.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image

from scene import HEIGHT, WIDTH, Visit, background, compose, encode, load_cutouts, report, stored_cutouts, truth

HERE = pathlib.Path(__file__).resolve().parent
FPS, SECONDS = 15, 34
FRAMES = FPS * SECONDS
# Noise of a small sensor in good light, in 8-bit luma levels.
NOISE_SIGMA = 1.5
# Keeps some of the noise and the file below 1.6 MB.
CRF = "31.5"
# For tests of what happens after the analysis: a twelfth of the pixels per second.
SMALL_FPS, SMALL_SIZE, SMALL_CRF = 5, (WIDTH // 2, HEIGHT // 2), "35"
COMMENT = "Car: Ruff, CC BY 3.0. Man: Reallusion, CC BY 3.0 US. Others and changes: see NOTICE of camfire."

ASTRONAUT = [(0.3, -100, 430), (2.1, 600, 430), (4.5, 600, 430), (6.5, 1410, 430)]
VISITS = [
    Visit("person", 420, ASTRONAUT, (2.3, 4.3), cutout="astronaut", steps=2),
    Visit("car", 220, [(7.3, 1560, 380), (8.4, 640, 380), (11.2, 640, 380), (12.3, -290, 380)], (8.6, 11.0)),
    Visit("cat", 680, [(13.1, -560, 380), (14.2, 500, 380), (17.4, 500, 380), (18.7, 1840, 380)], (14.5, 17.2)),
    # The person walks past the car, nearer to the camera. The cat looks on.
    Visit("cat", 150, [(19.5, -100, 120), (20.5, 240, 120), (23.6, 240, 120), (24.8, -100, 120)]),
    Visit("person", 300, [(19.5, -60, 530), (25.3, 1340, 530)], cutout="man", steps=2),
    Visit("car", 190, [(19.9, 1520, 350), (20.9, 850, 350), (23.0, 500, 350), (24.2, -250, 350)]),
    Visit("cat", 190, [(26.1, -160, 250), (32.3, 1440, 270)]),
    Visit("motorcycle", 200, [(27.1, 1450, 390), (31.1, -170, 400)], mirrored=True),
    Visit("cup", 150, [(27.7, 1380, 590), (29.3, 900, 590), (31.3, 900, 590), (32.7, 1380, 590)]),
]


def frames():
    """Yields (RGB frame, {visit index: box clipped to the frame}) for each frame."""
    cutouts, empty, noise = load_cutouts() | stored_cutouts(), background(), np.random.default_rng(2026)
    scaled = [visit.image(cutouts) for visit in VISITS]
    for number in range(FRAMES):
        frame = empty.copy()
        boxes = compose(frame, VISITS, scaled, number / FPS)
        grain = noise.normal(0, NOISE_SIGMA, (HEIGHT, WIDTH, 1)).astype(np.float32)
        yield np.clip(np.rint(np.asarray(frame, np.float32) + grain), 0, 255).astype(np.uint8), boxes


def small(path):
    """Writes every third frame at half the width and height."""
    every = FPS // SMALL_FPS
    images = (np.asarray(Image.fromarray(image).resize(SMALL_SIZE, Image.Resampling.BOX))
              for number, (image, _) in enumerate(frames()) if number % every == 0)
    encode(path, images, SMALL_SIZE, SMALL_FPS, SMALL_CRF, "slow", "camfire demo, small", COMMENT)
    report(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stills", action="store_true", help="also write one still per second to build/stills")
    parser.add_argument("--small", type=pathlib.Path, metavar="FILE", help="write only a small clip of the scene")
    arguments = parser.parse_args()
    if arguments.small:
        small(arguments.small)
        return
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
    encode(clip, images(), size, FPS, CRF, "slow", "camfire demo", COMMENT)
    (HERE / "demo.truth.json").write_text(truth(clip.name, size, FPS, VISITS, boxes))
    report(clip)


if __name__ == "__main__":
    main()
