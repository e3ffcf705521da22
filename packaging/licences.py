"""Prints the licence texts of all crates that are linked into the binary, each text once, with the crates that it
belongs to. Reads `cargo metadata --format-version 1` from stdin. Fails on a crate that states no licence.
"""

import hashlib
import json
import sys
from pathlib import Path

PREFIXES = ("licen", "copying", "notice", "unlicense", "copyright")


def linked(metadata):
    """The packages that the root package depends on at run time, itself not among them."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}

    def is_macro(package):
        return any("proc-macro" in target["kind"] for target in package["targets"])

    found, waiting = set(), [metadata["resolve"]["root"]]
    while waiting:
        name = waiting.pop()
        if name in found or is_macro(packages[name]):
            continue
        found.add(name)
        for dependency in nodes[name]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    # Crates without a source are part of this repository.
    return sorted(
        (packages[name] for name in found if packages[name]["source"]), key=lambda p: (p["name"], p["version"])
    )


def texts(package):
    folder = Path(package["manifest_path"]).parent
    files = [path for path in folder.iterdir() if path.is_file() and path.name.lower().startswith(PREFIXES)]
    return [path.read_text(errors="replace").strip() for path in sorted(files)]


def main():
    packages = linked(json.load(sys.stdin))
    unlicensed = [package["name"] for package in packages if not package["license"] and not package["license_file"]]
    if unlicensed:
        sys.exit(f"These crates state no licence: {', '.join(unlicensed)}")
    owners = {}
    print("camfire is linked with these libraries.\n")
    for package in packages:
        name = f"{package['name']} {package['version']}"
        print(f"{name}: {package['license']}; {package['repository'] or 'https://crates.io/crates/' + package['name']}")
        for text in texts(package):
            key = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
            owners.setdefault(key, (text, []))[1].append(name)
    for text, names in owners.values():
        print(f"\n\n{'=' * 100}\n{', '.join(names)}\n{'=' * 100}\n\n{text}")


main()
