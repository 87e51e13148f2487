"""Wheels by name, version and SHA-256, fetched with the user's own pip: what the fetch scripts share.

Python's standard library only; nothing is installed.
"""

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

# The CPython that a wheel was built for does not matter here: only files that do not link with Python are
# taken out. One is named so that the same file is fetched, with the same hash, whichever Python runs this.
WHEEL_PYTHON = ("3.11", "cp311")


class Pin(NamedTuple):
    """One wheel: what pip is asked for, and what the file must be."""

    project: str
    version: str
    platform: str  # pip's platform tag
    sha256: str


class Failure(Exception):
    """A failure whose text tells the user what happened, where, and what to do."""


def run(body, program: str, needed_bytes: int) -> int:
    """Run `body`; turn what can go wrong into a sentence on stderr and an exit status."""
    try:
        body()
    except Failure as failure:
        say(f"{program}: {failure}")
        return 1
    except OSError as error:
        if error.errno == errno.ENOSPC:
            say(
                f"{program}: the disk is full. About {needed_bytes / 1e9:.1f} GB are needed; free some, or set "
                "XDG_CACHE_HOME (downloads) and TMPDIR (pip) to a larger disk, and run it again. Nothing half-written "
                "is used."
            )
        else:
            say(f"{program}: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"\n{program}: interrupted; run it again to go on (finished downloads are kept)")
        return 130
    return 0


def require_space(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise Failure(
            f"{folder} has {free / 1e9:.1f} GB free and about {needed_bytes / 1e9:.1f} GB are needed. "
            "Free some space and run it again."
        )


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "graft"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class exclusive:
    """Holds a lock, so that two `make engine` at once do not download the same wheel twice."""

    def __init__(self, folder: Path):
        self.path = folder / "fetch.lock"

    def __enter__(self):
        import fcntl

        self.file = open(self.path, "w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another fetch is running; waiting for it")
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def verified_wheel(pin: Pin) -> Path:
    """The wheel of one pin, from the cache or from the user's package index, with its hash checked."""
    project, version, expected = pin.project, pin.version, pin.sha256
    folder = cache_folder() / "wheels"
    folder.mkdir(exist_ok=True)
    pattern = f"{project.replace('-', '_')}-{version}-*{pin.platform}*.whl"
    for wheel in sorted(folder.glob(pattern)):
        if sha256(wheel) == expected:
            return wheel
        say(f"{wheel.name} in the cache is damaged or another build; downloading it again")
        wheel.unlink()

    partial = folder / f"partial-{project}-{version}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    download(pin, partial)
    wheels = list(partial.glob("*.whl"))
    if len(wheels) != 1:
        raise Failure(f"pip left {len(wheels)} wheels in {partial} where one of {project} {version} was expected.")
    actual = sha256(wheels[0])
    if actual != expected:
        raise Failure(
            f"{wheels[0].name} has SHA-256 {actual} and the pinned one is {expected}. The package index served another "
            f"file than the one this version of Graft was tested with; nothing was unpacked. Check the index that pip is "
            f"configured to use (python3 -m pip config list). The file was left in {partial}."
        )
    final = folder / wheels[0].name
    wheels[0].replace(final)
    shutil.rmtree(partial, ignore_errors=True)
    return final


def download(pin: Pin, into: Path) -> None:
    pip = [sys.executable, "-m", "pip"]
    found = subprocess.run(pip + ["--version"], capture_output=True, text=True)
    if found.returncode != 0:
        raise Failure(
            f"{sys.executable} has no pip. Install it (Debian: apt-get install python3-pip; elsewhere: "
            f"{sys.executable} -m ensurepip) and run it again."
        )
    python_version, abi = WHEEL_PYTHON
    command = pip + ["download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(into)]
    command += ["--implementation", "cp", "--python-version", python_version, "--abi", abi, "--abi", "none", "--platform", pin.platform]
    if pip_version(found.stdout) >= (25, 1):
        command += ["--resume-retries", "10"]
    command.append(f"{pin.project}=={pin.version}")
    say(f"fetching {pin.project} {pin.version}")
    # pip's progress bar goes to stdout; stdout of this script is kept free.
    result = subprocess.run(command, stdout=sys.stderr)
    if result.returncode != 0:
        raise Failure(
            f"pip could not download {pin.project} {pin.version} (its message is above; exit status {result.returncode}). "
            "Check the network and pip's configuration (python3 -m pip config list) and run it again."
            + (
                " Or use a PyTorch that is already installed: GRAFT_TORCH=/path/to/site-packages/torch make engine."
                if pin.project == "torch"
                else ""
            )
        )


def pip_version(text: str):
    match = re.match(r"pip (\d+)\.(\d+)", text)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


class Progress:
    """A percentage that overwrites itself on a terminal and is a line every quarter elsewhere."""

    def __init__(self, label: str, total: int):
        self.label, self.total, self.done = label, max(total, 1), 0
        self.live, self.shown, self.drawn_at = sys.stderr.isatty(), -1, 0.0

    def advance(self, count: int) -> None:
        self.done += count
        percent = 100 * self.done // self.total
        now = time.monotonic()
        if self.live and now - self.drawn_at > 0.1:
            self.drawn_at = now
            print(f"\r{self.label}: {percent:3d} % of {self.total / 1e6:.0f} MB", end="", file=sys.stderr, flush=True)
        elif not self.live and percent // 25 > self.shown:
            self.shown = percent // 25
            say(f"{self.label}: {25 * self.shown} % of {self.total / 1e6:.0f} MB")

    def finish(self) -> None:
        if self.live:
            say(f"\r{self.label}: 100 % of {self.total / 1e6:.0f} MB")
