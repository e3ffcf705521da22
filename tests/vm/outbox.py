"""Reads camfire's outbox from the disk of a machine that is off."""

import datetime
import shutil
import sqlite3
import subprocess

FOLDER = "/var/lib/camfire"


class Outbox:
    """What an outbox has: the number of each message with its camera, and whether SQLite finds the file intact."""

    def __init__(self, path):
        with sqlite3.connect(path) as database:
            self.integrity = database.execute("PRAGMA integrity_check").fetchone()[0]
            self.numbers = set(database.execute("SELECT camera, seq FROM message"))


def read(disk, folder):
    """Replays the file system's journal, as the next boot would, copies the outbox into `folder`, and reads it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fsck = subprocess.run(["e2fsck", "-E", "journal_only", "-p", disk], capture_output=True, text=True)
    # 1: the journal has been replayed.
    if fsck.returncode > 1:
        raise OSError(f"e2fsck: {fsck.stdout}{fsck.stderr}")
    for name in ("outbox.db", "outbox.db-wal"):
        subprocess.run(["debugfs", "-R", f"dump {FOLDER}/{name} {folder / name}", disk], capture_output=True, check=True)
    return Outbox(folder / "outbox.db")


def time_s(message):
    """When a durable message happened, in seconds."""
    state = message.get("state") or {}
    text = message.get("at") or message.get("captured_at") or state.get("at") or state["since"]
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
