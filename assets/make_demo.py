#!/usr/bin/env python3
"""Makes `demo.mp4` and `demo.truth.json`: what a fixed camera over gravel would see of a cat, a cup and a motorcycle.

    python assets/make_demo.py            # writes both, beside this file
    python assets/make_demo.py --stills   # also writes a still a second into build/stills

All pictures come from the data folder of the PyPI package scikit-image; README.md beside this file names photographers and
licences. Every number is fixed, the encoder runs on one thread: the same versions give the same bytes.

Positions are pixels of the 1280 x 720 frame, times are seconds.
"""

import argparse
import hashlib
import json
import pathlib
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import skimage
from PIL import Image, ImageDraw, ImageFilter

HERE = pathlib.Path(__file__).resolve().parent
PHOTOS = pathlib.Path(skimage.__file__).parent / "data"
SHA256 = {
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
}
WIDTH, HEIGHT, FPS, SECONDS = 1280, 720, 15, 30
FRAMES = FPS * SECONDS
# Of a small sensor in good light; in steps of 8-bit luma.
NOISE_SIGMA = 1.5
# Constant quality that keeps some of the noise and fits into 1.5 MB.
CRF = "31.5"

# Outlines in pixels of the photographs.
CAT = [(38, 0), (395, 0), (370, 60), (366, 125), (352, 190), (330, 235), (300, 285), (285, 300), (20, 300), (0, 250)]
CAT += [(8, 170), (35, 100)]
MOTORCYCLE = [(85, 195), (150, 160), (225, 170), (330, 190), (400, 150), (440, 90), (500, 70), (560, 120), (575, 200)]
MOTORCYCLE += [(640, 230), (690, 300), (695, 400), (640, 450), (560, 440), (500, 380), (430, 400), (320, 440)]
MOTORCYCLE += [(200, 410), (120, 390), (100, 320), (130, 260), (95, 230)]
SAUCER, CUP = (74, 90, 480, 390), (168, 15, 412, 285)

CLASSES = {
    "cat": ["Egyptian cat", "tabby", "tiger cat"],
    "cup": ["espresso", "cup"],
    "motorcycle": ["moped", "motor scooter"],
}


@dataclass
class Visit:
    """One thing's time in view: from outside, to where it stands for a while, and out again.

    `path` is (time, x, y) of the middle; between two of them it moves evenly. `named` is when the whole frame must be
    named after it.
    """

    label: str
    height: int
    path: list
    named: tuple | None = None
    mirrored: bool = False


VISITS = [
    Visit("cat", 680, [(1.5, -560, 380), (2.6, 500, 380), (6.2, 500, 380), (7.5, 1840, 380)], (2.9, 6.0)),
    Visit("cup", 690, [(8.2, 1840, 370), (9.4, 640, 370), (12.6, 640, 370), (13.8, -560, 370)], (9.7, 12.4)),
    Visit("motorcycle", 640, [(14.6, -620, 380), (15.8, 640, 380), (19.0, 640, 380), (20.2, 1900, 380)], (16.1, 18.8)),
    Visit("cat", 190, [(21.0, -160, 250), (27.2, 1440, 270)]),
    Visit("motorcycle", 200, [(22.0, 1450, 390), (26.0, -170, 400)], mirrored=True),
    Visit("cup", 150, [(22.6, 1380, 590), (24.2, 900, 590), (26.8, 900, 590), (28.2, 1380, 590)]),
]


def photo(name):
    """A photograph of the package, whose bytes are checked."""
    path = PHOTOS / name
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[name]:
        raise SystemExit(f"{name}: sha256 {found}, expected {SHA256[name]}")
    return Image.open(path).convert("RGB")


def cut_outs():
    """Label -> RGBA picture, cut to its outline with a soft edge."""
    shapes = {}
    for label, name in (("cat", "chelsea.png"), ("cup", "coffee.png"), ("motorcycle", "motorcycle_left.png")):
        picture = photo(name)
        mask = Image.new("L", picture.size, 0)
        draw = ImageDraw.Draw(mask)
        if label == "cup":
            draw.ellipse(SAUCER, fill=255)
            draw.ellipse(CUP, fill=255)
        else:
            draw.polygon(CAT if label == "cat" else MOTORCYCLE, fill=255)
        # Soft inwards, so that nothing of what was around it shows.
        mask = mask.filter(ImageFilter.MinFilter(5)).filter(ImageFilter.GaussianBlur(2.5))
        picture.putalpha(mask)
        shapes[label] = picture.crop(mask.point(lambda v: 255 if v > 127 else 0).getbbox())
    return shapes


def ground():
    """Gravel, mirrored at its edges so that no seam shows, darker and flatter than the photograph."""
    tile = photo("gravel.png").convert("L").resize((1280, 1280), Image.BICUBIC).filter(ImageFilter.GaussianBlur(2))
    grey = np.asarray(tile, np.float32)
    grey = np.concatenate([grey, grey[:, ::-1]], axis=1)
    grey = np.concatenate([grey, grey[::-1]], axis=0)[:HEIGHT, :WIDTH]
    grey = (grey - grey.mean()) * 0.45 + 96
    tint = np.array([1.04, 1.0, 0.94], np.float32)
    return np.clip(grey[:, :, None] * tint, 0, 255)


def place(visit, time):
    """Middle of the visit's picture, or None while it is away."""
    path = visit.path
    if not path[0][0] <= time <= path[-1][0]:
        return None
    times = [point[0] for point in path]
    return tuple(np.interp(time, times, [point[axis] for point in path]) for axis in (1, 2))


def frames():
    """(RGB frame, {visit number: box of its visible part}) for each frame."""
    shapes, empty, noise = cut_outs(), ground(), np.random.default_rng(2026)
    sized = []
    for visit in VISITS:
        shape = shapes[visit.label]
        if visit.mirrored:
            shape = shape.transpose(Image.FLIP_LEFT_RIGHT)
        sized.append(shape.resize((round(shape.width * visit.height / shape.height), visit.height), Image.LANCZOS))
    for number in range(FRAMES):
        time = number / FPS
        frame, boxes = Image.fromarray(empty.astype(np.uint8)), {}
        seen = [(place(visit, time), visit, shape, i) for i, (visit, shape) in enumerate(zip(VISITS, sized))]
        # What stands lower in the frame is nearer and hides what is behind it.
        for middle, visit, shape, i in sorted((s for s in seen if s[0]), key=lambda s: s[0][1] + s[1].height / 2):
            left, top = round(middle[0] - shape.width / 2), round(middle[1] - shape.height / 2)
            shadow = Image.new("L", frame.size, 0)
            shadow.paste(shape.getchannel("A").point(lambda v: v // 2), (left + 6, top + visit.height // 30))
            shadow = shadow.filter(ImageFilter.GaussianBlur(visit.height / 40))
            frame.paste((20, 18, 16), (0, 0), shadow)
            frame.paste(shape, (left, top), shape)
            box = [max(left, 0), max(top, 0), min(left + shape.width, WIDTH), min(top + shape.height, HEIGHT)]
            if box[2] > box[0] and box[3] > box[1]:
                boxes[i] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        grain = noise.normal(0, NOISE_SIGMA, (HEIGHT, WIDTH, 1)).astype(np.float32)
        yield np.clip(np.rint(np.asarray(frame, np.float32) + grain), 0, 255).astype(np.uint8), boxes


def encode(path, pictures):
    """H.264 as a camera sends it: a keyframe a second, closed groups, no B frames, BT.709, limited range."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as file:
        file.metadata["title"] = "camfire demo"
        file.metadata["comment"] = "Photographs CC0 or public domain; see NOTICE"
        stream = file.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = WIDTH, HEIGHT, "yuv420p", Fraction(1, FPS)
        context = stream.codec_context
        context.thread_count = 1
        colours = "colorprim=bt709:transfer=bt709:colormatrix=bt709:range=tv"
        context.options = {
            "crf": CRF,
            "preset": "slow",
            "profile": "main",
            "x264-params": f"keyint={FPS}:min-keyint={FPS}:scenecut=0:open-gop=0:bframes=0:threads=1:{colours}",
        }
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            # 1 is BT.709; without it the conversion would use BT.601.
            frame = frame.reformat(format="yuv420p", dst_colorspace=1)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def truth(boxes):
    """What is where, as JSON with one object a line."""
    objects = []
    for i, visit in enumerate(VISITS):
        seen = [{"t_s": round(n / FPS, 3), "box": b[i]} for n, b in enumerate(boxes) if i in b]
        entry = {
            "id": i + 1,
            "label": visit.label,
            "classes": CLASSES[visit.label],
            "first_s": seen[0]["t_s"],
            "last_s": seen[-1]["t_s"],
            "alone": visit.named is not None,
        }
        if visit.named:
            entry |= {"named_from_s": visit.named[0], "named_until_s": visit.named[1]}
        objects.append(entry | {"boxes": seen})
    empty, start = [], None
    for number, seen in enumerate(boxes + [{0: None}]):
        if not seen and start is None:
            start = number
        if seen and start is not None:
            empty.append([round(start / FPS, 3), round(number / FPS, 3)])
            start = None
    head = {"schema": 1, "clip": "demo.mp4", "width": WIDTH, "height": HEIGHT, "fps": FPS, "frames": FRAMES, "empty": empty}
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in objects)
    return json.dumps(head, separators=(",", ":"))[:-1] + ',"objects":[\n' + lines + "\n]}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stills", action="store_true", help="write a still a second into build/stills")
    arguments = parser.parse_args()
    boxes = []

    def pictures():
        for number, (picture, seen) in enumerate(frames()):
            boxes.append(seen)
            if arguments.stills and number % FPS == 0:
                folder = pathlib.Path("build/stills")
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(folder / f"{number // FPS:02}.png")
            yield picture

    clip = HERE / "demo.mp4"
    encode(clip, pictures())
    (HERE / "demo.truth.json").write_text(truth(boxes))
    data = clip.read_bytes()
    print(f"{clip.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
