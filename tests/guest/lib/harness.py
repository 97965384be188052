# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Runs the cases of a scenario, and stages what they need in memory."""
import atexit
import os
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

TOP = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("KHYVE_BUILD", TOP / "build")).resolve()
# Images and pictures that tests/guest/run made ready, and what is to be kept of a run.
IMAGES = pathlib.Path(os.environ.get("KHYVE_GUEST_IMAGES", BUILD / "guest"))
KEEP = pathlib.Path(os.environ.get("KHYVE_GUEST_KEEP", BUILD / "guest"))
# Machines that are busy with other things may multiply every time limit.
PATIENCE = float(os.environ.get("KHYVE_PATIENCE", "1"))


class Failed(Exception):
    """What a case finds wrong."""


class Skipped(Exception):
    """Why a case means nothing on this machine."""


def check(condition, message):
    if not condition:
        raise Failed(message)


def check_equal(got, want, what):
    if got != want:
        raise Failed(f"{what} is {got!r}, not {want!r}")


def limit(seconds):
    """A time limit of that many seconds on two idle cores."""
    return seconds * PATIENCE


def wait_until(condition, seconds, what):
    """Polls until condition() is true, and returns its value."""
    end = time.monotonic() + limit(seconds)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"no {what} within {limit(seconds):.0f} s")
        time.sleep(0.1)


def make_folder():
    """A folder in memory, with a short path: socket addresses are to fit. Removed at the end."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = pathlib.Path(tempfile.mkdtemp(prefix="kg", dir=base))
    path.chmod(0o755)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def stage(folder, images=()):
    """Copies the programs and some images to folder; the first read of a file is slow in the test host."""
    for name in ("khyve", "khyve-vnc", "khyve-net", "vm"):
        shutil.copy2(BUILD / name, folder / name)
    shutil.copytree(BUILD / "share", folder / "share", dirs_exist_ok=True)
    for name in images:
        shutil.copy(IMAGES / name, folder / name)


def run_case(name, function):
    """Runs one case and prints its line. True unless it failed."""
    start = time.monotonic()
    try:
        function()
    except Skipped as e:
        print(f"skip {name}: {e}", flush=True)
    except Exception as e:  # pylint: disable=broad-except
        if not isinstance(e, Failed):
            traceback.print_exc()
        text = str(e).strip().replace("\n", "\n     ")
        print(f"FAIL {name}: {text or type(e).__name__}", flush=True)
        return False
    else:
        print(f"ok {name} ({time.monotonic() - start:.1f} s)", flush=True)
    return True


def main(cases, clean_up=lambda failed: None, chained=False):
    """Runs all (name, function) and clean_up(whether any failed), and exits. Chained: each builds on the one before."""
    failed = []
    for name, function in cases:
        if chained and failed:
            print(f"FAIL {name}: not tried, as {failed[0]} failed", flush=True)
        elif not run_case(name, function):
            failed.append(name)
    clean_up(bool(failed))
    sys.exit(1 if failed else 0)
