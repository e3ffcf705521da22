#!/usr/bin/env python3
"""Generates difficult scenes for motion detection and tracking: NAME.mp4 and NAME.truth.json for each scene.

    python assets/make_scenes.py --seed 1 --out build/scenes              # all scenes, 1280 x 720, 15 fps
    python assets/make_scenes.py crossing stop --seed 1 --out build/scenes
    python assets/make_scenes.py --short --seed 7 --out tests/data/scenes # 640 x 360, 10 fps, 14 to 24 s

    crossing  objects cross in opposite directions and partly occlude each other; one overtakes another
    stop      an object stops for a long time; others pass it, one of them partly in front of it
    light     light drifts as under clouds and changes suddenly: a lamp, in the long scene also a switch to infrared
    noise     strong sensor noise, rain
    shake     the camera shakes
    empty     no objects, only noise, drifting light, occasional rain and shaking
    mixed     a few objects one after another and at once, one of them stops (long scenes only)
    people    people walk side by side, meet and overtake each other (long scenes only)

The output is reproducible: all random numbers come from the seed and the encoder runs on one thread, so the
same seed and package versions give the same bytes. scene.py holds the code for cutouts, compositing, encoding
and the truth file. The truth of a scene also lists when the whole image changes suddenly (`scene_changes`).
"""

import argparse
import pathlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from scene import (
    WIDTH, Visit, background, compose, encode, load_cutouts, report, stored_cutouts, to_yuv, truth, width_of,
)  # fmt: skip

# What appears in the scenes.
OBJECTS = ["cat", "cup", "motorcycle"]
PEOPLE = ["astronaut", "man"]
# Steps per second of a person.
STEPS = 2
# Noise of a small sensor in good light, in luma levels.
NOISE_SIGMA = 1.5
# Seconds without objects before the first object and after the last one.
BEFORE, AFTER = 2.0, 3.0
# Speeds in frame widths per second.
SPEED, SHORT_SPEED = (0.15, 0.35), (0.28, 0.35)
# CRF of the long and the short scene. Short files must stay small; long ones must keep their noise.
CRF = {
    "crossing": ("27", "30.5"),
    "stop": ("27", "33.5"),
    "light": ("27", "33"),
    "noise": ("24", "31.5"),
    "shake": ("27", "29.5"),
    "empty": ("22", "31"),
    "mixed": ("27", None),
    "people": ("27", None),
}
# Length of the long and the short scene.
SECONDS = {
    "crossing": (60, 16),
    "stop": (100, 24),
    "light": (90, 24),
    "noise": (60, 14),
    "shake": (60, 14),
    "empty": (300, 20),
    "mixed": (60, None),
    "people": (120, None),
}


class Scene:
    """The description of a scene: its size, the objects that appear, and the disturbances of each frame."""

    def __init__(self, name, seed, short, cutouts):
        self.size, self.fps = ((640, 360), 10) if short else ((1280, 720), 15)
        self.width, self.height = self.size
        self.scale = self.width / WIDTH
        self.short, self.cutouts = short, cutouts
        self.seconds = SECONDS[name][short]
        self.frames = self.seconds * self.fps
        self.speed = SHORT_SPEED if short else SPEED
        self.rng = np.random.default_rng([seed, list(SECONDS).index(name), int(short)])
        self.visits, self.changes = [], []
        # What appears, by the name of its cutout, and what comes next: drawn without replacement, so that
        # none is rare.
        self.names, self.next_names = OBJECTS, []
        self.sigma = NOISE_SIGMA
        # Per frame: luma gain and offset, chroma gain, shift in pixels, number of dots and of streaks.
        self.gain, self.offset = np.ones(self.frames), np.zeros(self.frames)
        self.colour, self.shift = np.ones(self.frames), np.zeros((self.frames, 2))
        self.dots, self.streaks = np.zeros(self.frames), np.zeros(self.frames)

    def times(self):
        return np.arange(self.frames) / self.fps

    def draw_object(self, low=0.18, high=0.45):
        """Draws a random object: name of its cutout, height in pixels, and whether it is mirrored."""
        if not self.next_names:
            self.next_names = [self.names[i] for i in self.rng.permutation(len(self.names))]
        return self.next_names.pop(), round(self.rng.uniform(low, high) * self.height), bool(self.rng.integers(2))

    def across(self, obj, y, speed, rightwards, meet=0.5):
        """Returns a visit from one side to the other that is at `meet` (fraction of the width) at time 0."""
        name, height, mirrored = obj
        # Far enough outside that the shadow is not visible.
        out = width_of(self.cutouts[name], height) / 2 + 0.04 * self.width
        left, right = (x / (speed * self.width) for x in (-out - meet * self.width, self.width + out - meet * self.width))
        path = [(left, -out, y), (right, self.width + out, y)]
        if not rightwards:
            path = [(-right, self.width + out, y), (-left, -out, y)]
        if name in PEOPLE:
            return Visit("person", height, path, mirrored=mirrored, cutout=name, steps=STEPS)
        return Visit(name, height, path, mirrored=mirrored)

    def random_y(self, height):
        """Returns a random vertical centre at which an object of this height is fully inside the frame."""
        return self.rng.uniform(height / 2 + 2, self.height - height / 2 - 2)

    def single(self):
        """Returns one visit."""
        obj = self.draw_object()
        return [self.across(obj, self.random_y(obj[1]), self.rng.uniform(*self.speed), self.rng.random() < 0.5)]

    def overlapping(self, obj, y):
        """Returns another object and its vertical centre, such that the two partly occlude each other."""
        while True:
            other = self.draw_object()
            # The part of the smaller object that stays visible.
            clear = self.rng.uniform(0.25, 0.6) * min(obj[1], other[1])
            centre = y + (abs(obj[1] - other[1]) / 2 + clear) * self.rng.choice([-1, 1])
            if other[1] / 2 + 2 <= centre <= self.height - other[1] / 2 - 2:
                return other, centre

    def pair(self):
        """Returns two visits in opposite directions that overlap."""
        first = self.draw_object()
        y = self.random_y(first[1])
        second, other = self.overlapping(first, y)
        meet, rightwards = self.rng.uniform(0.35, 0.65), self.rng.random() < 0.5
        return [
            self.across(first, y, self.rng.uniform(*self.speed), rightwards, meet),
            self.across(second, other, self.rng.uniform(*self.speed), not rightwards, meet),
        ]

    def overtaking(self):
        """Returns two visits in the same direction, one faster. Short scenes add an oncoming third."""
        first = self.draw_object()
        y = self.random_y(first[1])
        second, other = self.overlapping(first, y)
        meet, rightwards = self.rng.uniform(0.45, 0.55), self.rng.random() < 0.5
        slow = (0.2, 0.22) if self.short else (0.15, 0.19)
        visits = [
            self.across(first, y, self.rng.uniform(*slow), rightwards, meet),
            self.across(second, other, self.rng.uniform(0.3, 0.35), rightwards, meet),
        ]
        if self.short:
            while True:
                obj, row = self.overlapping(first, y)
                # The third and the second object must not fully occlude each other.
                if abs(row - other) - abs(obj[1] - second[1]) / 2 >= 0.25 * min(obj[1], second[1]):
                    break
                if self.rng.random() < 0.05:
                    return self.overtaking()
            third = self.across(obj, row, self.rng.uniform(*self.speed), not rightwards)
            delay = self.rng.uniform(1.1, 1.6) * self.rng.choice([-1, 1])
            third.path = [(time + delay, x, y) for time, x, y in third.path]
            visits.append(third)
        return visits

    def company(self):
        """Returns two people who walk side by side and partly occlude each other or nearly touch."""
        first, second = self.draw_object(0.3, 0.5), self.draw_object(0.3, 0.5)
        foot = self.rng.uniform(max(first[1], second[1]) + 4, self.height - 4)
        speed, rightwards = self.rng.uniform(*self.speed), self.rng.random() < 0.5
        apart = sum(width_of(self.cutouts[name], height) for name, height, _ in (first, second)) / 2
        behind = self.rng.uniform(0.8, 1.05) * apart / (speed * self.width)
        visits = []
        for (name, height, mirrored), delay in ((first, 0), (second, behind)):
            visit = self.across((name, height, mirrored), foot - height / 2, speed, rightwards)
            visit.path = [(time + delay, x, y) for time, x, y in visit.path]
            visits.append(visit)
        return visits

    def schedule(self, makers, start, end, gap=(0.8, 2.5)):
        """Adds the visits of the makers one after another in random order.

        Redraws until all visits end before `end`.
        """
        if self.short:
            gap = (0.2, 0.6)
        for _ in range(100_000):
            visits, clock = [], start + self.rng.uniform(0, 0.3)
            for i in self.rng.permutation(len(makers)):
                group = makers[i]()
                shift = clock - min(visit.path[0][0] for visit in group)
                for visit in group:
                    visit.path = [(time + shift, x, y) for time, x, y in visit.path]
                visits += group
                clock = max(visit.path[-1][0] for visit in group) + self.rng.uniform(*gap)
            if max(visit.path[-1][0] for visit in visits) <= end:
                self.visits += visits
                return visits
        raise SystemExit(f"{len(makers)} visits do not fit between {start:.1f} s and {end:.1f} s")

    def end(self):
        return self.seconds - AFTER

    def stopping(self, stay, start):
        """Adds an object in the upper half that enters, stops for `stay` seconds and leaves."""
        label, height, mirrored = self.draw_object(0.27, 0.37)
        y = height / 2 + self.rng.uniform(0.04, 0.12) * self.height
        x = self.rng.uniform(0.4, 0.6) * self.width
        out = width_of(self.cutouts[label], height) / 2 + 0.04 * self.width
        sides = [-out, self.width + out]
        entry_x, exit_x = sides[self.rng.integers(2)], sides[self.rng.integers(2)]
        path = [(start, entry_x, y)]
        path.append((start + abs(x - entry_x) / (self.rng.uniform(0.3, 0.35) * self.width), x, y))
        path.append((path[-1][0] + stay, x, y))
        path.append((path[-1][0] + abs(x - exit_x) / (self.rng.uniform(0.3, 0.35) * self.width), exit_x, y))
        visit = Visit(label, height, path, mirrored=mirrored)
        self.visits.append(visit)
        return visit

    def below(self, stopped):
        """Returns a visit that passes the stopped object without overlapping it."""
        foot = stopped.path[0][2] + stopped.height / 2 + 0.05 * self.height
        label, height, mirrored = self.draw_object(0.18, min(0.45, 0.98 - foot / self.height))
        y = self.rng.uniform(foot + height / 2, self.height - height / 2 - 2)
        return [self.across((label, height, mirrored), y, self.rng.uniform(*self.speed), self.rng.random() < 0.5)]

    def in_front(self, stopped):
        """Returns a visit that temporarily occludes the lower part of the stopped object."""
        obj = self.draw_object(0.22, 0.34)
        foot = stopped.path[0][2] + stopped.height / 2
        y = foot - self.rng.uniform(0.3, 0.5) * stopped.height + obj[1] / 2
        # An object is in front only if its foot is lower.
        y = max(y, foot - obj[1] / 2 + 0.03 * self.height)
        return [self.across(obj, y, self.rng.uniform(*self.speed), self.rng.random() < 0.5)]

    def light_drift(self, amplitude, period):
        """Varies the light slowly, as under clouds."""
        phase = self.rng.uniform(0, 2 * np.pi, 2)
        angle = 2 * np.pi * self.times() / period
        wave = 0.8 * np.sin(angle + phase[0]) + 0.2 * np.sin(2.7 * angle + phase[1])
        self.gain *= 1 + amplitude * wave

    def scene_change(self, start, stay, gain, offset, colour):
        """Changes the whole image at `start` for `stay` seconds. Returns when it changes back."""
        first, last = round(start * self.fps), round((start + stay) * self.fps)
        self.gain[first:last] *= gain
        self.offset[first:last] += offset
        self.colour[first:last] *= colour
        self.changes += [round(first / self.fps, 3), round(last / self.fps, 3)]
        return last / self.fps

    def lamp(self, start, stay):
        return self.scene_change(start, stay, 1.5, 10, 1)

    def infrared(self, start, stay):
        return self.scene_change(start, stay, 0.65, 0, 0)

    def rain(self, first, last, dots, streaks):
        amount = (last - first,)
        self.dots[first:last] += self.rng.poisson(dots * self.scale, amount)
        self.streaks[first:last] += self.rng.poisson(streaks * self.scale, amount)

    def shaking(self, first, last, max_shift):
        self.shift[first:last] = self.rng.uniform(-max_shift, max_shift, (last - first, 2)) * self.scale

    def intervals(self, length, pause):
        """Yields random intervals, as (first, last) frames, with pauses between them."""
        clock = self.rng.uniform(*pause)
        while clock < self.seconds:
            until = clock + self.rng.uniform(*length)
            yield round(clock * self.fps), min(round(until * self.fps), self.frames)
            clock = until + self.rng.uniform(*pause)


def crossing(scene):
    makers = [scene.overtaking] + [scene.pair] * (1 if scene.short else 6)
    scene.schedule(makers, BEFORE, scene.end())


def stop(scene):
    stopped = scene.stopping(12 if scene.short else 60, BEFORE + scene.rng.uniform(0, 0.3))
    stopped_at, leaves_at, gone_at = (point[0] for point in stopped.path[1:])
    others = [lambda: scene.in_front(stopped)] + [lambda: scene.below(stopped)] * (1 if scene.short else 6)
    scene.schedule(others, stopped_at + 0.5, leaves_at - 0.2)
    if not scene.short:
        scene.schedule([scene.single] * 3, gone_at + 1, scene.end())


def light(scene):
    # No object is in view from 2 s before to 5 s after a sudden change.
    scene.light_drift(0.25, 30)
    if scene.short:
        scene.schedule([scene.single], BEFORE, 6.6)
        stable_from = scene.lamp(8.7 + scene.rng.uniform(0, 0.2), 2) + 5
        scene.schedule([scene.single], stable_from, scene.end())
        return
    scene.schedule([scene.single], BEFORE, 11)
    stable_from = scene.lamp(13 + scene.rng.uniform(0, 1), scene.rng.uniform(3, 5)) + 5
    scene.schedule([scene.single, scene.single], stable_from, 39)
    stable_from = scene.infrared(41 + scene.rng.uniform(0, 1), scene.rng.uniform(8, 10)) + 5
    scene.schedule([scene.single], stable_from, 66)
    stable_from = scene.lamp(68 + scene.rng.uniform(0, 1), scene.rng.uniform(2, 4)) + 5
    scene.schedule([scene.single], stable_from, scene.end())


def noise(scene):
    scene.sigma = 6
    scene.rain(0, scene.frames, 60, 6)
    scene.schedule([scene.single] * (2 if scene.short else 5) + [scene.pair] * (not scene.short), BEFORE, scene.end())


def shake(scene):
    scene.shaking(0, scene.frames, 1)
    for first, last in scene.intervals(*(((2, 3), (3, 5)) if scene.short else ((3, 5), (6, 12)))):
        scene.shift[first:last] = 0
    scene.schedule([scene.single] * (2 if scene.short else 5) + [scene.pair] * (not scene.short), BEFORE, scene.end())


def empty(scene):
    scene.sigma = 3
    scene.light_drift(0.15, 20 if scene.short else 60)
    length, pause = ((2, 4), (2, 4)) if scene.short else ((4, 10), (8, 25))
    for first, last in scene.intervals(length, pause):
        scene.rain(first, last, 12, 0)
    for first, last in scene.intervals(length, pause):
        scene.shaking(first, last, 0.5)


def mixed(scene):
    scene.schedule([scene.single], BEFORE, 13)
    start = scene.visits[-1].path[-1][0] + scene.rng.uniform(1, 4)
    stopped = scene.stopping(10, start)
    scene.schedule([lambda: scene.below(stopped)], stopped.path[1][0] + 0.5, stopped.path[2][0])
    scene.schedule([scene.pair], stopped.path[-1][0] + scene.rng.uniform(1, 5), scene.end())


def people(scene):
    scene.names = PEOPLE
    makers = [scene.company] * 6 + [scene.pair] * 4 + [scene.overtaking] * 2
    scene.schedule(makers, BEFORE, scene.end())


@dataclass
class SensorNoise:
    """Sensor noise: each frame uses a random part of one of a few precomputed noise fields."""

    shape: tuple
    sigma: float
    rng: np.random.Generator
    fields: list = field(default_factory=list)

    def __post_init__(self):
        size = (self.shape[0] + 128, self.shape[1] + 128)
        for _ in range(6):
            self.fields.append(np.rint(self.rng.standard_normal(size, np.float32) * self.sigma).astype(np.int8))

    def draw(self):
        number, y, x, flips = self.rng.integers([len(self.fields), 129, 129, 4])
        part = self.fields[number][y : y + self.shape[0], x : x + self.shape[1]]
        return part[:: 1 - 2 * (flips & 1), :: 1 - (flips & 2)]


def planes(image, size):
    """Returns the luma plane and the two chroma planes as views."""
    width, height = size
    colour = image[height:].reshape(2, height // 2, width // 2)
    return image[:height], colour[0], colour[1]


def shifted(plane, x, y):
    """Returns the plane shifted by less than two pixels, interpolated in steps of 1/64 pixel."""
    height, width = plane.shape
    wide = np.pad(plane, 2, mode="edge").astype(np.uint16)
    column, row = int(np.floor(x)), int(np.floor(y))
    part = round((y - row) * 64)
    above = wide[2 + row : 2 + row + height]
    wide = (above * np.uint16(64 - part) + wide[3 + row : 3 + row + height] * np.uint16(part) + 32) >> 6
    part = round((x - column) * 64)
    left = wide[:, 2 + column : 2 + column + width]
    return (left * np.uint16(64 - part) + wide[:, 3 + column : 3 + column + width] * np.uint16(part) + 32) >> 6


def draw_rain(luma, dots, streaks, rng, scale):
    """Draws rain: bright dots of one or two pixels, and short streaks."""
    height, width = luma.shape
    for kind, amount in (("dot", dots), ("streak", streaks)):
        for _ in range(int(amount)):
            y, x, bright = rng.integers(height), rng.integers(width), rng.integers(50, 130)
            if kind == "dot":
                high, wide = rng.integers(1, 3, 2)
                luma[y : y + high, x : x + wide] += np.int16(bright)
            else:
                length = int(rng.integers(8, 24) * scale)
                rows = np.arange(y, min(y + length, height))
                slant = x + (rows - y) // 4
                luma[rows[slant < width], slant[slant < width]] += np.int16(bright * 0.6)


def frames(scene):
    """Yields (YUV image, boxes) for each frame."""
    width, height = scene.size
    empty = background()
    if empty.size != scene.size:
        empty = empty.resize(scene.size, Image.BOX)
    empty_yuv = to_yuv(np.asarray(empty)).to_ndarray()
    scaled = [visit.image(scene.cutouts) for visit in scene.visits]
    noise = SensorNoise((height, width), scene.sigma, scene.rng)
    levels = np.arange(256)
    for number in range(scene.frames):
        time, boxes, clean = number / scene.fps, {}, empty_yuv
        if any(visit.centre(time) for visit in scene.visits):
            frame = empty.copy()
            boxes = compose(frame, scene.visits, scaled, time)
            clean = to_yuv(np.asarray(frame)).to_ndarray()
        result = clean.copy()
        luma, *colours = planes(result, scene.size)
        x, y = scene.shift[number]
        if x or y:
            luma[:] = shifted(luma, x, y)
            for plane in colours:
                plane[:] = shifted(plane, x / 2, y / 2)
        gain, offset, colour = scene.gain[number], scene.offset[number], scene.colour[number]
        if (gain, offset, colour) != (1, 0, 1):
            table = np.clip(np.rint((levels - 16) * gain + offset + 16), 16, 235).astype(np.uint8)
            luma[:] = table[luma]
            table = np.clip(np.rint((levels - 128) * gain * colour + 128), 16, 240).astype(np.uint8)
            for plane in colours:
                plane[:] = table[plane]
        noisy = np.add(luma, noise.draw(), dtype=np.int16)
        draw_rain(noisy, scene.dots[number], scene.streaks[number], scene.rng, scene.scale)
        np.clip(noisy, 16, 235, out=noisy)
        luma[:] = noisy
        yield result, boxes


def make(name, seed, short, out, cutouts):
    scene, boxes = Scene(name, seed, short, cutouts), []
    SCENES[name](scene)
    scene.visits.sort(key=lambda visit: visit.path[0][0])

    def images():
        for image, visible in frames(scene):
            boxes.append(visible)
            yield image

    clip = out / f"{name}.mp4"
    encode(clip, images(), scene.size, scene.fps, CRF[name][short], "fast", f"camfire scene {name}", "See NOTICE")
    text = truth(clip.name, scene.size, scene.fps, scene.visits, boxes, scene_changes=scene.changes)
    (out / f"{name}.truth.json").write_text(text)
    report(clip)


SCENES = {
    "crossing": crossing,
    "stop": stop,
    "light": light,
    "noise": noise,
    "shake": shake,
    "empty": empty,
    "mixed": mixed,
    "people": people,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenes to generate (default: all)")
    parser.add_argument("--seed", type=int, required=True, help="seed of the random numbers")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="output folder")
    parser.add_argument("--short", action="store_true", help="generate the small, short scenes for the tests")
    arguments = parser.parse_args()
    available = [name for name in SCENES if SECONDS[name][arguments.short] is not None]
    for name in arguments.names:
        if name not in available:
            parser.error(f"unknown scene {name}; available: {', '.join(available)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    cutouts = load_cutouts() | stored_cutouts()
    for name in arguments.names or available:
        make(name, arguments.seed, arguments.short, arguments.out, cutouts)


if __name__ == "__main__":
    main()
