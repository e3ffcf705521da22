#!/usr/bin/env python3
"""Estimates the run time of the shipped networks on a Pi 4 and a Pi 5 with a static model of their cores.

    make cycle-model                 # SqueezeNet with ImageNet's classes
    make cycle-model INPUT=128       # the everyday network: another input, no conv10

Extracts the tile functions of the NEON and dotprod kernels from the binary's disassembly, counts the cycles of their
inner loops and of the remaining code with llvm-mca, and multiplies them by the number of executions. The model assumes
that all data is in the L1 cache and that every branch is predicted. The result is a lower bound for this code, not a
measurement. docs/kernels.md contains the results.
"""

import re
import subprocess
import sys
import tempfile

IMAGENET_INPUT = 227


def layers(side):
    """Returns (name, output rows and columns, input channels, output channels, window) of each convolution.

    Only the network with an input of IMAGENET_INPUT ends in conv10.
    """
    reduced = [(side - 3) // 2 + 1]
    for _ in range(3):
        reduced.append((reduced[-1] - 3) // 2 + 1)
    conv1, *pooled = reduced
    found, depth = [("conv1", conv1, 3, 64, 3)], 64
    for fire in range(2, 10):
        size = pooled[0 if fire < 4 else 1 if fire < 6 else 2]
        squeeze = 16 * (fire // 2)
        expand = 4 * squeeze
        found += [
            (f"fire{fire} squeeze", size, depth, squeeze, 1),
            (f"fire{fire} expand", size, squeeze, expand, 1),
            (f"fire{fire} expand 3x3", size, squeeze, expand, 3),
        ]
        depth = 2 * expand
    return found + ([("conv10", pooled[2], 512, 1000, 1)] if side == IMAGENET_INPUT else [])


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
    binary, side = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else IMAGENET_INPUT
    rows, totals = {}, {}
    for machine, (kernel, core, hertz) in MACHINES.items():
        tiles = measure(binary, kernel, core)
        _, mr, nr, group, _, _ = KERNELS[kernel]
        print(f"{machine}: {kernel} on {core}: " + ", ".join(
            f"{m} pixels {a:.1f} + {c:.1f} cycles" for m, (a, _, c) in sorted(tiles.items())))
        for name, size, depth, channels, window in layers(side):
            taps, run = window, window * depth
            flat = window == 1 and depth > 64
            lines, width = (1, size * size) if flat else (size, size)
            blocks, total = -(-channels // nr), 0.0
            for pixels in widths(width, mr):
                sixteen, four, rest = tiles[pixels]
                groups = -(-run // group) if group == 16 else None
                per_tap = groups * sixteen if groups else run // 16 * sixteen + -(-(run % 16) // 4) * four
                total += taps * per_tap + rest
            total *= lines * blocks
            macs = size * size * channels * depth * window * window
            rows.setdefault(name, [macs]).append((total, hertz, macs / total))
    print("\n| layer | M multiply-adds | " + " | ".join(f"{m}, ms | per cycle" for m in MACHINES) + " |")
    print("| --- " * (2 + 2 * len(MACHINES)) + "|")
    for name, (macs, *found) in rows.items():
        cells = [f"{t / hz * 1e3:.2f} | {rate:.1f}" for t, hz, rate in found]
        print(f"| {name} | {macs / 1e6:.2f} | " + " | ".join(cells) + " |")
    sums = [sum(row[1 + i][0] / row[1 + i][1] for row in rows.values()) * 1e3 for i in range(len(MACHINES))]
    macs = sum(row[0] for row in rows.values())
    print(f"| all | {macs / 1e6:.2f} | " + " | ".join(f"**{s:.1f}** | " for s in sums) + "|")


if __name__ == "__main__":
    main()
