"""Shared code of the clip generators: cutouts, background, compositing, encoding, and the truth file.

The photographs come from the data folder of the PyPI package scikit-image and from the folder `cutouts`; NOTICE
names the authors and licences. Positions are pixels of the frame, times are seconds.
"""

import hashlib
import json
import pathlib
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import skimage
from PIL import Image, ImageDraw, ImageFilter

PHOTOS = pathlib.Path(skimage.__file__).parent / "data"
CUTOUTS = pathlib.Path(__file__).resolve().parent / "cutouts"
SHA256 = {
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
}
WIDTH, HEIGHT = 1280, 720
# How far a step raises the body, as a share of its height.
STEP_HEIGHT = 0.015

# Outlines in pixels of the photographs.
CAT = [(38, 0), (395, 0), (370, 60), (366, 125), (352, 190), (330, 235), (300, 285), (285, 300), (20, 300), (0, 250)]
CAT += [(8, 170), (35, 100)]
MOTORCYCLE = [(85, 195), (150, 160), (225, 170), (330, 190), (400, 150), (440, 90), (500, 70), (560, 120), (575, 200)]
MOTORCYCLE += [(640, 230), (690, 300), (695, 400), (640, 450), (560, 440), (500, 380), (430, 400), (320, 440)]
MOTORCYCLE += [(200, 410), (120, 390), (100, 320), (130, 260), (95, 230)]
SAUCER, CUP = (74, 90, 480, 390), (168, 15, 412, 285)

# The classes of the network that match a label. None of them is a person in general.
CLASSES = {
    "person": [],
    "car": ["beach wagon", "cab", "convertible", "minivan", "sports car"],
    "cat": ["Egyptian cat", "tabby", "tiger cat"],
    "cup": ["espresso", "cup"],
    "motorcycle": ["moped", "motor scooter"],
}


@dataclass
class Visit:
    """The path of one object through the view: it enters, may stop for a while, and leaves.

    `path` lists (time, x, y) of the centre, interpolated linearly. `named` is the interval in which the
    object, alone and at rest, must have its label. `cutout` is the name of its picture if that is not the
    label. With `steps` it walks: it takes so many steps per second while it moves.
    """

    label: str
    height: int
    path: list
    named: tuple | None = None
    mirrored: bool = False
    cutout: str | None = None
    steps: float = 0

    def centre(self, time):
        """Returns the centre of the object, or None while it is not in the scene."""
        if not self.path[0][0] <= time <= self.path[-1][0]:
            return None
        times = [point[0] for point in self.path]
        x, y = (np.interp(time, times, [point[axis] for point in self.path]) for axis in (1, 2))
        return x, y - self.lift(time)

    def lift(self, time):
        """Returns how far the body is raised by the step that it takes, in pixels."""
        for (start, *before), (end, *after) in zip(self.path, self.path[1:]):
            if self.steps and start <= time <= end and before != after:
                # Whole steps, so that both feet are on the ground at the end.
                count = max(round(self.steps * (end - start)), 1)
                return STEP_HEIGHT * self.height * abs(np.sin(np.pi * count * (time - start) / (end - start)))
        return 0

    def image(self, cutouts):
        """Returns the cutout at the size of this visit."""
        shape = cutouts[self.cutout or self.label]
        if self.mirrored:
            shape = shape.transpose(Image.FLIP_LEFT_RIGHT)
        return shape.resize((width_of(shape, self.height), self.height), Image.LANCZOS)


def width_of(shape, height):
    return round(shape.width * height / shape.height)


def photo(name):
    """Loads a photograph of the package after checking its SHA-256."""
    path = PHOTOS / name
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != SHA256[name]:
        raise SystemExit(f"{name}: sha256 {actual}, expected {SHA256[name]}")
    return Image.open(path).convert("RGB")


def load_cutouts():
    """Returns label -> RGBA image, cut out along its outline with a soft edge."""
    cutouts = {}
    for label, name in (("cat", "chelsea.png"), ("cup", "coffee.png"), ("motorcycle", "motorcycle_left.png")):
        image = photo(name)
        mask = Image.new("L", image.size, 0)
        draw = ImageDraw.Draw(mask)
        if label == "cup":
            draw.ellipse(SAUCER, fill=255)
            draw.ellipse(CUP, fill=255)
        else:
            draw.polygon(CAT if label == "cat" else MOTORCYCLE, fill=255)
        # The edge is softened inwards so that no original background shows.
        mask = mask.filter(ImageFilter.MinFilter(5)).filter(ImageFilter.GaussianBlur(2.5))
        image.putalpha(mask)
        cutouts[label] = image.crop(mask.point(lambda v: 255 if v > 127 else 0).getbbox())
    return cutouts


def stored_cutouts():
    """Returns name -> RGBA image of the folder `cutouts`."""
    return {path.stem: Image.open(path).convert("RGBA") for path in sorted(CUTOUTS.glob("*.png"))}


def background():
    """Returns the gravel background, WIDTH x HEIGHT.

    It is mirrored at the edges of the photograph to hide the seams, and darker and lower in contrast than it.
    """
    tile = photo("gravel.png").convert("L").resize((1280, 1280), Image.BICUBIC).filter(ImageFilter.GaussianBlur(2))
    grey = np.asarray(tile, np.float32)
    grey = np.concatenate([grey, grey[:, ::-1]], axis=1)
    grey = np.concatenate([grey, grey[::-1]], axis=0)[:HEIGHT, :WIDTH]
    grey = (grey - grey.mean()) * 0.45 + 96
    tint = np.array([1.04, 1.0, 0.94], np.float32)
    return Image.fromarray(np.clip(grey[:, :, None] * tint, 0, 255).astype(np.uint8))


def paste(frame, shape, centre):
    """Pastes a cutout and its shadow into the frame. Returns its box clipped to the frame, or None."""
    left, top = round(centre[0] - shape.width / 2), round(centre[1] - shape.height / 2)
    right, down, blur = round(6 * frame.width / WIDTH), shape.height // 30, shape.height / 40
    # The area that the shadow can cover.
    reach = round(4 * blur) + 4
    area = [max(left + right - reach, 0), max(top + down - reach, 0)]
    area += [min(left + right + shape.width + reach, frame.width), min(top + down + shape.height + reach, frame.height)]
    if area[2] > area[0] and area[3] > area[1]:
        shadow = Image.new("L", (area[2] - area[0], area[3] - area[1]), 0)
        half = shape.getchannel("A").point(lambda v: v // 2)
        shadow.paste(half, (left + right - area[0], top + down - area[1]))
        frame.paste((20, 18, 16), tuple(area), shadow.filter(ImageFilter.GaussianBlur(blur)))
    frame.paste(shape, (left, top), shape)
    box = [max(left, 0), max(top, 0), min(left + shape.width, frame.width), min(top + shape.height, frame.height)]
    if box[2] > box[0] and box[3] > box[1]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    return None


def compose(frame, visits, images, time):
    """Pastes all objects visible at `time` into the frame. Returns {visit index: clipped box}."""
    boxes = {}
    present = [(visit.centre(time), shape, i) for i, (visit, shape) in enumerate(zip(visits, images))]
    # Objects lower in the frame are nearer and hide those behind them.
    for centre, shape, i in sorted((s for s in present if s[0]), key=lambda s: s[0][1] + s[1].height / 2):
        box = paste(frame, shape, centre)
        if box:
            boxes[i] = box
    return boxes


def encode(path, images, size, fps, crf, preset, title, comment):
    """Encodes H.264 as cameras do: one keyframe per second, closed GOPs, no B frames, BT.709, limited range.

    An image is RGB, or YUV 4:2:0 as one array with the planes stacked vertically.
    """
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as file:
        file.metadata["title"] = title
        file.metadata["comment"] = comment
        stream = file.add_stream("libx264", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, fps)
        context = stream.codec_context
        context.thread_count = 1
        colours = "colorprim=bt709:transfer=bt709:colormatrix=bt709:range=tv"
        context.options = {
            "crf": crf,
            "preset": preset,
            "profile": "main",
            "x264-params": f"keyint={fps}:min-keyint={fps}:scenecut=0:open-gop=0:bframes=0:threads=1:{colours}",
        }
        for number, image in enumerate(images):
            frame = to_yuv(image) if image.ndim == 3 else av.VideoFrame.from_ndarray(image, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def to_yuv(image):
    # 1 is BT.709; the default would be BT.601.
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", dst_colorspace=1)


def truth(clip, size, fps, visits, boxes, **more):
    """Returns the truth file: JSON, one object per line. `boxes`: the results of `compose`, per frame."""
    objects = []
    for i, visit in enumerate(visits):
        visible = [{"t_s": round(n / fps, 3), "box": b[i]} for n, b in enumerate(boxes) if i in b]
        entry = {
            "id": i + 1,
            "label": visit.label,
            "classes": CLASSES[visit.label],
            "first_s": visible[0]["t_s"],
            "last_s": visible[-1]["t_s"],
            "alone": visit.named is not None,
        }
        if visit.named:
            entry |= {"named_from_s": visit.named[0], "named_until_s": visit.named[1]}
        objects.append(entry | {"boxes": visible})
    empty, start = [], None
    for number, visible in enumerate(boxes + [{0: None}]):
        if not visible and start is None:
            start = number
        if visible and start is not None:
            empty.append([round(start / fps, 3), round(number / fps, 3)])
            start = None
    head = {"schema": 1, "clip": clip, "width": size[0], "height": size[1], "fps": fps, "frames": len(boxes)}
    head |= {"empty": empty} | more
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in objects)
    return json.dumps(head, separators=(",", ":"))[:-1] + ',"objects":[' + (f"\n{lines}\n" if lines else "") + "]}\n"


def report(clip):
    data = clip.read_bytes()
    print(f"{clip.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}", flush=True)
