"""What the clips share: things cut out of photographs, the ground, how things stand on it, how clip and truth are written.

All pictures come from the data folder of the PyPI package scikit-image; README.md beside this file names photographers and
licences.

Positions are pixels of the frame, times are seconds.
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
SHA256 = {
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
}
WIDTH, HEIGHT = 1280, 720

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
    """One thing's time in view: from outside, perhaps to where it stands for a while, and out again.

    `path` is (time, x, y) of the middle; between two of them it moves evenly. `named` is when the whole frame must be
    named after it.
    """

    label: str
    height: int
    path: list
    named: tuple | None = None
    mirrored: bool = False

    def middle(self, time):
        """Middle of the picture, or None while the thing is away."""
        if not self.path[0][0] <= time <= self.path[-1][0]:
            return None
        times = [point[0] for point in self.path]
        return tuple(np.interp(time, times, [point[axis] for point in self.path]) for axis in (1, 2))

    def picture(self, shapes):
        """The cut-out in the visit's size."""
        shape = shapes[self.label]
        if self.mirrored:
            shape = shape.transpose(Image.FLIP_LEFT_RIGHT)
        return shape.resize((width_of(shape, self.height), self.height), Image.LANCZOS)


def width_of(shape, height):
    return round(shape.width * height / shape.height)


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
    """Gravel, mirrored at its edges so that no seam shows, darker and flatter than the photograph; WIDTH x HEIGHT."""
    tile = photo("gravel.png").convert("L").resize((1280, 1280), Image.BICUBIC).filter(ImageFilter.GaussianBlur(2))
    grey = np.asarray(tile, np.float32)
    grey = np.concatenate([grey, grey[:, ::-1]], axis=1)
    grey = np.concatenate([grey, grey[::-1]], axis=0)[:HEIGHT, :WIDTH]
    grey = (grey - grey.mean()) * 0.45 + 96
    tint = np.array([1.04, 1.0, 0.94], np.float32)
    return Image.fromarray(np.clip(grey[:, :, None] * tint, 0, 255).astype(np.uint8))


def stand(frame, shape, middle):
    """Puts a picture and its shadow into the frame; its box inside the frame, or None."""
    left, top = round(middle[0] - shape.width / 2), round(middle[1] - shape.height / 2)
    right, down, blur = round(6 * frame.width / WIDTH), shape.height // 30, shape.height / 40
    # The part of the frame that the shadow can reach.
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


def compose(frame, visits, pictures, time):
    """Puts what is there at a time into the frame; {visit number: box of its part inside the frame}."""
    boxes = {}
    seen = [(visit.middle(time), shape, i) for i, (visit, shape) in enumerate(zip(visits, pictures))]
    # What stands lower in the frame is nearer and hides what is behind it.
    for middle, shape, i in sorted((s for s in seen if s[0]), key=lambda s: s[0][1] + s[1].height / 2):
        box = stand(frame, shape, middle)
        if box:
            boxes[i] = box
    return boxes


def encode(path, pictures, size, fps, crf, preset, title, comment):
    """H.264 as a camera sends it: a keyframe a second, closed groups, no B frames, BT.709, limited range.

    A picture is RGB, or YUV 4:2:0 as one array with the planes below each other.
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
        for number, picture in enumerate(pictures):
            frame = to_yuv(picture) if picture.ndim == 3 else av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def to_yuv(picture):
    # 1 is BT.709; without it the conversion would use BT.601.
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p", dst_colorspace=1)


def truth(clip, size, fps, visits, boxes, **more):
    """What is where, as JSON with one object a line; `boxes` as of `compose`, for each frame."""
    objects = []
    for i, visit in enumerate(visits):
        seen = [{"t_s": round(n / fps, 3), "box": b[i]} for n, b in enumerate(boxes) if i in b]
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
            empty.append([round(start / fps, 3), round(number / fps, 3)])
            start = None
    head = {"schema": 1, "clip": clip, "width": size[0], "height": size[1], "fps": fps, "frames": len(boxes)}
    head |= {"empty": empty} | more
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in objects)
    return json.dumps(head, separators=(",", ":"))[:-1] + ',"objects":[' + (f"\n{lines}\n" if lines else "") + "]}\n"


def report(clip):
    data = clip.read_bytes()
    print(f"{clip.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}", flush=True)
