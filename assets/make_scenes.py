#!/usr/bin/env python3
"""Makes scenes that are hard for finding what moves and following it: NAME.mp4 and NAME.truth.json for each name.

    python assets/make_scenes.py --seed 1 --out build/scenes              # all, 1280 x 720, 15 frames a second
    python assets/make_scenes.py crossing stop --seed 1 --out build/scenes
    python assets/make_scenes.py --short --seed 7 --out tests/data/scenes # 640 x 360, 10 frames a second, a few seconds

    crossing  things cross in opposite directions and partly hide each other; one overtakes another
    stop      a thing stops for long; others pass by it, one partly in front of it
    light     light drifts as under clouds, and changes at once: a lamp, in the long one also the switch to infrared
    noise     strong noise of the sensor, rain
    shake     the camera shakes
    empty     nothing but noise, drifting light, rain and shaking now and then
    mixed     a few things one after another and at once, one of them stops (only long)

Everything that is left to chance comes from the seed, the encoder runs on one thread: the same seed and versions give the
same bytes. Pictures, composing and encoding are those of scene.py beside this file, so is the truth; it says also when the
whole picture changes at once (`scene_changes`).
"""

import argparse
import pathlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from scene import CLASSES, WIDTH, Visit, compose, cut_outs, encode, ground, report, to_yuv, truth, width_of

# Of a small sensor in good light; in steps of luma.
NOISE_SIGMA = 1.5
# Empty ground before the first thing and after the last; seconds.
BEFORE, AFTER = 2.0, 3.0
# In frame widths a second.
SPEED, SHORT_SPEED = (0.15, 0.35), (0.28, 0.35)
# Constant quality, long and short; the short ones must stay small, the long noise must not be smoothed away.
CRF = {
    "crossing": ("27", "30.5"),
    "stop": ("27", "33.5"),
    "light": ("27", "33"),
    "noise": ("24", "31.5"),
    "shake": ("27", "29.5"),
    "empty": ("22", "31"),
    "mixed": ("27", None),
}
SECONDS = {
    "crossing": (60, 16),
    "stop": (100, 24),
    "light": (90, 24),
    "noise": (60, 14),
    "shake": (60, 14),
    "empty": (300, 20),
    "mixed": (60, None),
}


class Stage:
    """A scene in the making: its size, what comes into view, and what happens to each frame."""

    def __init__(self, name, seed, short, shapes):
        self.size, self.fps = ((640, 360), 10) if short else ((1280, 720), 15)
        self.width, self.height = self.size
        self.scale = self.width / WIDTH
        self.short, self.shapes = short, shapes
        self.seconds = SECONDS[name][short]
        self.frames = self.seconds * self.fps
        self.speed = SHORT_SPEED if short else SPEED
        self.chance = np.random.default_rng([seed, list(SECONDS).index(name), int(short)])
        self.visits, self.changes = [], []
        # Labels of the next things, so that no label is rare.
        self.bag = []
        self.sigma = NOISE_SIGMA
        # For each frame: factor and addend of luma, factor of colour, shift in pixels, number of dots and streaks.
        self.gain, self.offset = np.ones(self.frames), np.zeros(self.frames)
        self.colour, self.shift = np.ones(self.frames), np.zeros((self.frames, 2))
        self.dots, self.streaks = np.zeros(self.frames), np.zeros(self.frames)

    def times(self):
        return np.arange(self.frames) / self.fps

    def thing(self, low=0.18, high=0.45):
        """Label, height in pixels and whether mirrored."""
        if not self.bag:
            self.bag = [list(CLASSES)[i] for i in self.chance.permutation(len(CLASSES))]
        return self.bag.pop(), round(self.chance.uniform(low, high) * self.height), bool(self.chance.integers(2))

    def across(self, thing, y, speed, rightwards, meet=0.5):
        """A visit from one side to the other that is at `meet` (of the width) at time 0."""
        label, height, mirrored = thing
        # So far outside that no shadow shows.
        out = width_of(self.shapes[label], height) / 2 + 0.04 * self.width
        left, right = (x / (speed * self.width) for x in (-out - meet * self.width, self.width + out - meet * self.width))
        path = [(left, -out, y), (right, self.width + out, y)]
        if not rightwards:
            path = [(-right, self.width + out, y), (-left, -out, y)]
        return Visit(label, height, path, mirrored=mirrored)

    def row(self, height):
        """A middle for a thing of this height that has it all inside the frame."""
        return self.chance.uniform(height / 2 + 2, self.height - height / 2 - 2)

    def one(self):
        thing = self.thing()
        return [self.across(thing, self.row(thing[1]), self.chance.uniform(*self.speed), self.chance.random() < 0.5)]

    def beside(self, thing, y):
        """Another thing and a middle for it such that one partly hides the other where they meet."""
        while True:
            other = self.thing()
            # So much of the smaller one is clear of the other.
            clear = self.chance.uniform(0.25, 0.6) * min(thing[1], other[1])
            middle = y + (abs(thing[1] - other[1]) / 2 + clear) * self.chance.choice([-1, 1])
            if other[1] / 2 + 2 <= middle <= self.height - other[1] / 2 - 2:
                return other, middle

    def pair(self):
        """Two in opposite directions."""
        first = self.thing()
        y = self.row(first[1])
        second, other = self.beside(first, y)
        meet, rightwards = self.chance.uniform(0.35, 0.65), self.chance.random() < 0.5
        return [
            self.across(first, y, self.chance.uniform(*self.speed), rightwards, meet),
            self.across(second, other, self.chance.uniform(*self.speed), not rightwards, meet),
        ]

    def overtaking(self):
        """Two in the same direction, one faster; in a short scene a third comes towards them."""
        first = self.thing()
        y = self.row(first[1])
        second, other = self.beside(first, y)
        meet, rightwards = self.chance.uniform(0.45, 0.55), self.chance.random() < 0.5
        slow = (0.2, 0.22) if self.short else (0.15, 0.19)
        visits = [
            self.across(first, y, self.chance.uniform(*slow), rightwards, meet),
            self.across(second, other, self.chance.uniform(0.3, 0.35), rightwards, meet),
        ]
        if self.short:
            while True:
                thing, row = self.beside(first, y)
                # Nor must it be behind the second, or hide it.
                if abs(row - other) - abs(thing[1] - second[1]) / 2 >= 0.25 * min(thing[1], second[1]):
                    break
                if self.chance.random() < 0.05:
                    return self.overtaking()
            third = self.across(thing, row, self.chance.uniform(*self.speed), not rightwards)
            later = self.chance.uniform(1.1, 1.6) * self.chance.choice([-1, 1])
            third.path = [(time + later, x, y) for time, x, y in third.path]
            visits.append(third)
        return visits

    def in_turn(self, makers, start, end, gap=(0.8, 2.5)):
        """Visits of one maker after those of the one before, in any order; drawn again until they end in time."""
        if self.short:
            gap = (0.2, 0.6)
        for _ in range(100_000):
            visits, clock = [], start + self.chance.uniform(0, 0.3)
            for i in self.chance.permutation(len(makers)):
                group = makers[i]()
                shift = clock - min(visit.path[0][0] for visit in group)
                for visit in group:
                    visit.path = [(time + shift, x, y) for time, x, y in visit.path]
                visits += group
                clock = max(visit.path[-1][0] for visit in group) + self.chance.uniform(*gap)
            if max(visit.path[-1][0] for visit in visits) <= end:
                self.visits += visits
                return visits
        raise SystemExit(f"{len(makers)} visits do not fit between {start:.1f} s and {end:.1f} s")

    def end(self):
        return self.seconds - AFTER

    def stopping(self, stay, start):
        """A thing in the upper half that comes, stands for `stay` seconds and leaves."""
        label, height, mirrored = self.thing(0.27, 0.37)
        y = height / 2 + self.chance.uniform(0.04, 0.12) * self.height
        x = self.chance.uniform(0.4, 0.6) * self.width
        out = width_of(self.shapes[label], height) / 2 + 0.04 * self.width
        sides = [-out, self.width + out]
        come, leave = sides[self.chance.integers(2)], sides[self.chance.integers(2)]
        path = [(start, come, y)]
        path.append((start + abs(x - come) / (self.chance.uniform(0.3, 0.35) * self.width), x, y))
        path.append((path[-1][0] + stay, x, y))
        path.append((path[-1][0] + abs(x - leave) / (self.chance.uniform(0.3, 0.35) * self.width), leave, y))
        visit = Visit(label, height, path, mirrored=mirrored)
        self.visits.append(visit)
        return visit

    def below(self, stopped):
        """A visit that passes the stopped one without touching it."""
        foot = stopped.path[0][2] + stopped.height / 2 + 0.05 * self.height
        label, height, mirrored = self.thing(0.18, min(0.45, 0.98 - foot / self.height))
        y = self.chance.uniform(foot + height / 2, self.height - height / 2 - 2)
        return [self.across((label, height, mirrored), y, self.chance.uniform(*self.speed), self.chance.random() < 0.5)]

    def in_front(self, stopped):
        """A visit that hides the lower part of the stopped one for a while."""
        thing = self.thing(0.22, 0.34)
        foot = stopped.path[0][2] + stopped.height / 2
        y = foot - self.chance.uniform(0.3, 0.5) * stopped.height + thing[1] / 2
        # It is in front only when its foot is lower.
        y = max(y, foot - thing[1] / 2 + 0.03 * self.height)
        return [self.across(thing, y, self.chance.uniform(*self.speed), self.chance.random() < 0.5)]

    def drift(self, swing, period):
        """Light that comes and goes as under clouds."""
        phase = self.chance.uniform(0, 2 * np.pi, 2)
        angle = 2 * np.pi * self.times() / period
        wave = 0.8 * np.sin(angle + phase[0]) + 0.2 * np.sin(2.7 * angle + phase[1])
        self.gain *= 1 + swing * wave

    def sudden(self, start, stay, gain, offset, colour):
        """The whole picture is another from `start` on for `stay` seconds; when it is as before."""
        first, last = round(start * self.fps), round((start + stay) * self.fps)
        self.gain[first:last] *= gain
        self.offset[first:last] += offset
        self.colour[first:last] *= colour
        self.changes += [round(first / self.fps, 3), round(last / self.fps, 3)]
        return last / self.fps

    def lamp(self, start, stay):
        return self.sudden(start, stay, 1.5, 10, 1)

    def infrared(self, start, stay):
        return self.sudden(start, stay, 0.65, 0, 0)

    def rain(self, first, last, dots, streaks):
        amount = (last - first,)
        self.dots[first:last] += self.chance.poisson(dots * self.scale, amount)
        self.streaks[first:last] += self.chance.poisson(streaks * self.scale, amount)

    def shaking(self, first, last, most):
        self.shift[first:last] = self.chance.uniform(-most, most, (last - first, 2)) * self.scale

    def spells(self, length, pause):
        """Spells in frames: (first, last), with pauses between them."""
        clock = self.chance.uniform(*pause)
        while clock < self.seconds:
            until = clock + self.chance.uniform(*length)
            yield round(clock * self.fps), min(round(until * self.fps), self.frames)
            clock = until + self.chance.uniform(*pause)


def crossing(stage):
    makers = [stage.overtaking] + [stage.pair] * (1 if stage.short else 6)
    stage.in_turn(makers, BEFORE, stage.end())


def stop(stage):
    stopped = stage.stopping(12 if stage.short else 60, BEFORE + stage.chance.uniform(0, 0.3))
    stands, leaves, gone = (point[0] for point in stopped.path[1:])
    others = [lambda: stage.in_front(stopped)] + [lambda: stage.below(stopped)] * (1 if stage.short else 6)
    stage.in_turn(others, stands + 0.5, leaves - 0.2)
    if not stage.short:
        stage.in_turn([stage.one] * 3, gone + 1, stage.end())


def light(stage):
    # Nothing is in view from 2 s before to 5 s after a sudden change.
    stage.drift(0.25, 30)
    if stage.short:
        stage.in_turn([stage.one], BEFORE, 6.6)
        calm = stage.lamp(8.7 + stage.chance.uniform(0, 0.2), 2) + 5
        stage.in_turn([stage.one], calm, stage.end())
        return
    stage.in_turn([stage.one], BEFORE, 11)
    calm = stage.lamp(13 + stage.chance.uniform(0, 1), stage.chance.uniform(3, 5)) + 5
    stage.in_turn([stage.one, stage.one], calm, 39)
    calm = stage.infrared(41 + stage.chance.uniform(0, 1), stage.chance.uniform(8, 10)) + 5
    stage.in_turn([stage.one], calm, 66)
    calm = stage.lamp(68 + stage.chance.uniform(0, 1), stage.chance.uniform(2, 4)) + 5
    stage.in_turn([stage.one], calm, stage.end())


def noise(stage):
    stage.sigma = 6
    stage.rain(0, stage.frames, 60, 6)
    stage.in_turn([stage.one] * (2 if stage.short else 5) + [stage.pair] * (not stage.short), BEFORE, stage.end())


def shake(stage):
    stage.shaking(0, stage.frames, 1)
    for first, last in stage.spells(*(((2, 3), (3, 5)) if stage.short else ((3, 5), (6, 12)))):
        stage.shift[first:last] = 0
    stage.in_turn([stage.one] * (2 if stage.short else 5) + [stage.pair] * (not stage.short), BEFORE, stage.end())


def empty(stage):
    stage.sigma = 3
    stage.drift(0.15, 20 if stage.short else 60)
    length, pause = ((2, 4), (2, 4)) if stage.short else ((4, 10), (8, 25))
    for first, last in stage.spells(length, pause):
        stage.rain(first, last, 12, 0)
    for first, last in stage.spells(length, pause):
        stage.shaking(first, last, 0.5)


def mixed(stage):
    stage.in_turn([stage.one], BEFORE, 13)
    start = stage.visits[-1].path[-1][0] + stage.chance.uniform(1, 4)
    stopped = stage.stopping(10, start)
    stage.in_turn([lambda: stage.below(stopped)], stopped.path[1][0] + 0.5, stopped.path[2][0])
    stage.in_turn([stage.pair], stopped.path[-1][0] + stage.chance.uniform(1, 5), stage.end())


@dataclass
class Grain:
    """Noise of the sensor: parts of a few fields, each time from another place."""

    shape: tuple
    sigma: float
    chance: np.random.Generator
    fields: list = field(default_factory=list)

    def __post_init__(self):
        size = (self.shape[0] + 128, self.shape[1] + 128)
        for _ in range(6):
            self.fields.append(np.rint(self.chance.standard_normal(size, np.float32) * self.sigma).astype(np.int8))

    def draw(self):
        number, y, x, flips = self.chance.integers([len(self.fields), 129, 129, 4])
        part = self.fields[number][y : y + self.shape[0], x : x + self.shape[1]]
        return part[:: 1 - 2 * (flips & 1), :: 1 - (flips & 2)]


def planes(picture, size):
    """Luma and the two of colour, as views."""
    width, height = size
    colour = picture[height:].reshape(2, height // 2, width // 2)
    return picture[:height], colour[0], colour[1]


def moved(plane, x, y):
    """The plane shifted by less than two pixels, with what is between pixels in steps of 1/64."""
    height, width = plane.shape
    wide = np.pad(plane, 2, mode="edge").astype(np.uint16)
    column, row = int(np.floor(x)), int(np.floor(y))
    part = round((y - row) * 64)
    above = wide[2 + row : 2 + row + height]
    wide = (above * np.uint16(64 - part) + wide[3 + row : 3 + row + height] * np.uint16(part) + 32) >> 6
    part = round((x - column) * 64)
    left = wide[:, 2 + column : 2 + column + width]
    return (left * np.uint16(64 - part) + wide[:, 3 + column : 3 + column + width] * np.uint16(part) + 32) >> 6


def drops(luma, dots, streaks, chance, scale):
    """Bright dots of one or two pixels, and short streaks."""
    height, width = luma.shape
    for kind, amount in (("dot", dots), ("streak", streaks)):
        for _ in range(int(amount)):
            y, x, bright = chance.integers(height), chance.integers(width), chance.integers(50, 130)
            if kind == "dot":
                high, wide = chance.integers(1, 3, 2)
                luma[y : y + high, x : x + wide] += np.int16(bright)
            else:
                length = int(chance.integers(8, 24) * scale)
                rows = np.arange(y, min(y + length, height))
                slant = x + (rows - y) // 4
                luma[rows[slant < width], slant[slant < width]] += np.int16(bright * 0.6)


def frames(stage):
    """(YUV picture, boxes) for each frame."""
    width, height = stage.size
    picture = ground()
    if picture.size != stage.size:
        picture = picture.resize(stage.size, Image.BOX)
    bare = to_yuv(np.asarray(picture)).to_ndarray()
    sized = [visit.picture(stage.shapes) for visit in stage.visits]
    grain = Grain((height, width), stage.sigma, stage.chance)
    levels = np.arange(256)
    for number in range(stage.frames):
        time, boxes, clean = number / stage.fps, {}, bare
        if any(visit.middle(time) for visit in stage.visits):
            frame = picture.copy()
            boxes = compose(frame, stage.visits, sized, time)
            clean = to_yuv(np.asarray(frame)).to_ndarray()
        result = clean.copy()
        luma, *colours = planes(result, stage.size)
        x, y = stage.shift[number]
        if x or y:
            luma[:] = moved(luma, x, y)
            for plane in colours:
                plane[:] = moved(plane, x / 2, y / 2)
        gain, offset, colour = stage.gain[number], stage.offset[number], stage.colour[number]
        if (gain, offset, colour) != (1, 0, 1):
            table = np.clip(np.rint((levels - 16) * gain + offset + 16), 16, 235).astype(np.uint8)
            luma[:] = table[luma]
            table = np.clip(np.rint((levels - 128) * gain * colour + 128), 16, 240).astype(np.uint8)
            for plane in colours:
                plane[:] = table[plane]
        rough = np.add(luma, grain.draw(), dtype=np.int16)
        drops(rough, stage.dots[number], stage.streaks[number], stage.chance, stage.scale)
        np.clip(rough, 16, 235, out=rough)
        luma[:] = rough
        yield result, boxes


def make(name, seed, short, out, shapes):
    stage, boxes = Stage(name, seed, short, shapes), []
    SCENES[name](stage)
    stage.visits.sort(key=lambda visit: visit.path[0][0])

    def pictures():
        for picture, seen in frames(stage):
            boxes.append(seen)
            yield picture

    clip = out / f"{name}.mp4"
    encode(clip, pictures(), stage.size, stage.fps, CRF[name][short], "fast", f"camfire scene {name}", "See NOTICE")
    text = truth(clip.name, stage.size, stage.fps, stage.visits, boxes, scene_changes=stage.changes)
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
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenes to make; without one, all there are")
    parser.add_argument("--seed", type=int, required=True, help="a whole number that decides all that is left to chance")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write to")
    parser.add_argument("--short", action="store_true", help="small ones of a few seconds, for tests")
    arguments = parser.parse_args()
    there = [name for name in SCENES if SECONDS[name][arguments.short] is not None]
    for name in arguments.names:
        if name not in there:
            parser.error(f"no scene {name}; there are {', '.join(there)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    shapes = cut_outs()
    for name in arguments.names or there:
        make(name, arguments.seed, arguments.short, arguments.out, shapes)


if __name__ == "__main__":
    main()
