#!/usr/bin/env python3
"""Estimates the run time of a network on a Pi 4 and a Pi 5 with a static model of their cores.

    make cycle-model                                             # the shipped network
    make cycle-model MODEL=models/everyday/everyday_int8.tflite  # any other

Extracts the tile functions of the NEON and dotprod kernels from the binary's disassembly, counts the cycles of their
inner loops and of the remaining code with llvm-mca, and multiplies them by the number of executions. The model assumes
that all data is in the L1 cache and that every branch is predicted, and it contains nothing but convolutions. The
result is a lower bound for this code, not a measurement. docs/kernels.md contains the results.

Arguments: the aarch64 binary of the example `layers`, and a file with what that prints with --shapes.
"""

import re
import subprocess
import sys
import tempfile



def layers(path):
    """Returns (name, rows, pixels of a row, channels, runs per pixel, bytes of a run) of each convolution, and the names
    of the other instructions.
    """
    convolutions, others = [], []
    for line in open(path):
        name, *numbers = line.rstrip("\n").split("\t")
        if numbers:
            convolutions.append((name, *map(int, numbers)))
        else:
            others.append(name)
    return convolutions, others


# kernel: symbol, pixels of a tile, channels of a block, bytes of a group, instruction that identifies M,
# number of those instructions per pixel
KERNELS = {
    "neon": ("neon4tile", 4, 4, 16, "sadalp", 4),
    "dotprod": ("dotprod4tile", 8, 8, 4, "sdot", 8),
}
MACHINES = {"Pi 4": ("neon", "cortex-a72", 1.8e9), "Pi 5": ("dotprod", "cortex-a76", 2.4e9)}


def functions(binary, symbol):
    """Returns the instructions of each function whose name contains `symbol`, as lists of (address, text)."""
    text = subprocess.run(["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", binary], capture_output=True, text=True)
    found, current = [], None
    for line in text.stdout.splitlines():
        if header := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            current = [] if symbol in header[1] else None
            if current is not None:
                found.append(current)
        elif current is not None and (entry := re.match(r"^\s*([0-9a-f]+):\s+(.*)$", line)):
            current.append((int(entry[1], 16), entry[2].split("//")[0].strip()))
    return found


def loops(instructions):
    """Returns the innermost loops as (first, last) indices of bodies that end in a backward branch."""
    index_of = {address: i for i, (address, _) in enumerate(instructions)}
    found = []
    for i, (_, text) in enumerate(instructions):
        target = re.match(r"(?:b\.\w+|cbn?z\s+\w+,|tbn?z\s+.*,)\s*([0-9a-f]+) <", text)
        if target and (start := index_of.get(int(target[1], 16))) is not None and start < i:
            found.append((start, i))
    return [a for a in found if not any(a[0] <= b[0] and b[1] <= a[1] and a != b for b in found)]


def cycles(texts, core, iterations):
    """Returns the cycles per execution of `texts` in steady state."""
    plain = [re.sub(r"\b[0-9a-f]+ <.*>", "1f", text) for text in texts]
    plain = [text for text in plain if not text.startswith((".", "udf", "nop"))]
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        file.write("\n".join(plain) + "\n1:\n")
        file.flush()
        command = ["llvm-mca", "-mtriple=aarch64", f"-mcpu={core}", "-mattr=+dotprod", f"-iterations={iterations}", file.name]
        report = subprocess.run(command, capture_output=True, text=True)
    total = re.search(r"Total Cycles:\s+(\d+)", report.stdout)
    if not total:
        raise SystemExit(report.stderr[-2000:])
    return int(total[1]) / iterations


def measure(binary, kernel, core):
    """Returns, by pixels of a tile, the cycles of a 16-byte group, of a 4-byte group, and of the rest."""
    symbol, _, _, _, marker, per_pixel = KERNELS[kernel]
    tiles = {}
    for instructions in functions(binary, symbol):
        inner, covered = {}, set()
        for first, last in loops(instructions):
            body = [text for _, text in instructions[first : last + 1]]
            count = sum(text.startswith(marker) for text in body)
            if count:
                inner[count] = cycles(body, core, 200)
                covered |= set(range(first, last + 1))
        # A full tile's code ends at the first return; the code after it handles blocks that are not full.
        end = next(i for i, (_, text) in enumerate(instructions) if text == "ret")
        rest = [text for i, (_, text) in enumerate(instructions) if i <= end and i not in covered]
        if not inner:
            continue
        largest, smallest = max(inner), min(inner)
        pixels = largest // per_pixel
        tiles[pixels] = (inner[largest], inner[smallest], cycles(rest, core, 20))
    return tiles


def widths(width, max_pixels):
    """Returns the tiles of a row in pixels, divided as in `engine/src/kernels/tiles.rs`."""
    count = -(-width // max_pixels)
    return [width // count + (i < width % count) for i in range(count)]


def main():
    binary, shapes = sys.argv[1:]
    convolutions, others = layers(shapes)
    rows = {}
    for machine, (kernel, core, hertz) in MACHINES.items():
        tiles = measure(binary, kernel, core)
        _, mr, nr, group, _, _ = KERNELS[kernel]
        print(f"{machine}: {kernel} on {core}: " + ", ".join(
            f"{m} pixels {a:.1f} + {c:.1f} cycles" for m, (a, _, c) in sorted(tiles.items())))
        for name, lines, width, channels, taps, run in convolutions:
            blocks, total = -(-channels // nr), 0.0
            for pixels in widths(width, mr):
                sixteen, four, rest = tiles[pixels]
                groups = -(-run // group) if group == 16 else None
                per_tap = groups * sixteen if groups else run // 16 * sixteen + -(-(run % 16) // 4) * four
                total += taps * per_tap + rest
            total *= lines * blocks
            macs = lines * width * channels * taps * run
            rows.setdefault(name, [macs]).append((total, hertz, macs / total))
    print("\n| layer | M multiply-adds | " + " | ".join(f"{m}, ms | per cycle" for m in MACHINES) + " |")
    print("| --- " * (2 + 2 * len(MACHINES)) + "|")
    for name, (macs, *found) in rows.items():
        cells = [f"{t / hz * 1e3:.2f} | {rate:.1f}" for t, hz, rate in found]
        print(f"| {name} | {macs / 1e6:.2f} | " + " | ".join(cells) + " |")
    sums = [sum(row[1 + i][0] / row[1 + i][1] for row in rows.values()) * 1e3 for i in range(len(MACHINES))]
    macs = sum(row[0] for row in rows.values())
    print(f"| all | {macs / 1e6:.2f} | " + " | ".join(f"**{s:.1f}** | " for s in sums) + "|")
    if others:
        names = sorted({"padding" if " padding " in name else re.search(r"\((.*?)\)", name)[1] for name in others})
        print(f"\nNot included: {len(others)} instructions ({', '.join(names)})")


if __name__ == "__main__":
    main()
