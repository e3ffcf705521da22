#!/usr/bin/python3
"""Installs camfire's package in a virtual machine and checks from outside that the service does what it promises.

    make test-vm                         # builds the package, then runs this
    tests/vm/run.py --deb camfire.deb    # a package that exists already

Prints a line for each step and writes the table for docs/vm-test.md to build/vm/run/result.md. The log of a step
that failed is beside it. The steps are in checks.py. The image of the machine is built once (image.py).
"""

import argparse
import datetime
import os
import pathlib
import shutil
import subprocess
import sys
import time

import checks
import emulator
import image
import machine
import outside
import payload

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Frames of the RTSP camera per second. Under emulation, more are not all analysed.
RTSP_RATE = 1
JOURNAL_LINES = 40
# For all steps. Their own limits in checks.py add up to more, because not all need theirs.
LIMIT_MIN = 10


def main():
    arguments = parse_arguments()
    folder = ROOT / "build/vm"
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    qemu = emulator.find(folder / "qemu")
    disk_image = image.prepare(folder / "image", arguments.deb)
    payload_disk, *versions = payload.make(arguments.deb, ROOT / "assets/demo.mp4", run)
    port = outside.free_port()
    vm = machine.Machine(qemu, disk_image, run, payload_disk, {port: 1883}, arguments.accelerator, arguments.cores)
    rtsp_camera, subscriber = outside.RtspCamera(RTSP_RATE), outside.Subscriber(port)
    site = checks.Site(vm, subscriber, port, rtsp_camera, versions)
    print(f"{qemu.version()}, {vm.accelerator}, {arguments.deb.name} {versions[0]}", flush=True)
    try:
        results = run_steps(site, arguments.limit_min, run)
    finally:
        vm.cut_power()
        subscriber.stop()
        rtsp_camera.stop()
        vm.disk.unlink()
    report(results, run / "result.md", qemu, vm, arguments.deb, versions)
    sys.exit(0 if all(result.outcome == "ok" for result in results) else 1)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deb", type=pathlib.Path, required=True, help="the package to test")
    parser.add_argument("--limit", type=float, default=LIMIT_MIN, metavar="MINUTES", dest="limit_min", help="for all steps (10); that of each step is scaled with it")
    parser.add_argument("--accelerator", choices=["kvm", "tcg"], default=machine.default_accelerator())
    parser.add_argument("--cores", type=int, default=max(2, min(4, os.cpu_count())), help="of the machine")
    arguments = parser.parse_args()
    arguments.deb = arguments.deb.resolve()
    if not arguments.deb.is_file():
        parser.error(f"{arguments.deb} is not a file")
    return arguments


class StepResult:
    def __init__(self, name, outcome, seconds, text):
        self.name, self.outcome, self.seconds, self.text = name, outcome, seconds, text


def run_steps(site, limit_min, folder):
    """Runs all steps. Without a machine that boots and a package that is installed, the others are not run."""
    results, end = [], time.monotonic() + limit_min * 60
    for number, (name, limit_s, function) in enumerate(checks.STEPS, 1):
        start = time.monotonic()
        if start >= end or (results and results[min(len(results) - 1, 1)].outcome != "ok"):
            results.append(StepResult(name, "not run", 0, ""))
        else:
            site.machine.clock.end = min(start + limit_s * limit_min / LIMIT_MIN, end)
            since = datetime.datetime.now(datetime.timezone.utc)
            try:
                text, outcome = function(site) or "", "ok"
            except (machine.Failure, OSError, subprocess.CalledProcessError, ValueError, KeyError, IndexError) as error:
                text, outcome = f"{type(error).__name__}: {error}", "failed"
            results.append(StepResult(name, outcome, time.monotonic() - start, text))
            if outcome == "failed":
                save_journal(site, since, folder / f"step-{number:02}.journal")
        print_result(number, results[-1])
    return results


def print_result(number, result):
    colour = {"ok": "32", "failed": "31"}.get(result.outcome, "33")
    mark = f"\033[{colour}m{result.outcome:7}\033[0m" if sys.stdout.isatty() else f"{result.outcome:7}"
    detail = f": {result.text}" if result.text else ""
    print(f"{mark} {number:2} {result.seconds:5.0f} s  {result.name}{detail}", flush=True)


def save_journal(site, since, path):
    """Writes the machine's journal of the failed step to a file, and prints the end of it."""
    site.machine.clock.end = time.monotonic() + 30
    try:
        # The guest agent logs each question that it is asked.
        text = site.machine.run(f"journalctl --no-pager --since '{since:%Y-%m-%d %H:%M:%S} UTC' --output short-precise"
                                " | grep --invert-match 'qemu-ga'").out
    except (machine.Failure, OSError, AttributeError) as error:
        text = f"No journal: {error}. See console.log.\n"
    path.write_text(text)
    lines = text.splitlines()
    print("\n".join(f"        {line}" for line in lines[-JOURNAL_LINES:]), flush=True)
    print(f"        {len(lines)} lines in {path}", flush=True)


def report(results, path, qemu, vm, package, versions):
    seconds = sum(result.seconds for result in results)
    size_mib = package.stat().st_size / 2**20
    lines = [
        f"Last run: {datetime.date.today()}. Package {versions[0]} ({size_mib:.1f} MiB), {qemu.version()}, {vm.accelerator}, "
        f"{vm.cores} cores. {sum(result.outcome == 'ok' for result in results)} of {len(results)} steps ok in "
        f"{seconds / 60:.1f} minutes.", "", "| step | result | time | measured |", "| --- | --- | --- | --- |",
    ]
    for result in results:
        text = result.text.splitlines()[0] if result.text else ""
        lines.append(f"| {result.name} | {result.outcome} | {result.seconds:.0f} s | {text} |")
    path.write_text("\n".join(lines) + "\n")
    print(f"{sum(result.outcome == 'ok' for result in results)} of {len(results)} ok in {seconds:.0f} s; table in {path}")


if __name__ == "__main__":
    main()
