"""The venv with transformers and PEFT that `make verify` and `make bench` compare Graft with."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "python-stack.txt"


def default_venv() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "graft" / "verify-venv"


def enter(venv: Path) -> None:
    """Go on in the venv's Python, made first where it is missing or older than the requirements.

    A venv made by somebody else (one without this script's mark) is used as it is, never changed.
    """
    venv = Path(os.path.abspath(venv.expanduser()))
    if Path(sys.prefix).resolve() == venv.resolve():
        return
    python = venv / "bin" / "python"
    mark = venv / "graft-requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not python.exists() or (mark.exists() and mark.read_text().strip() != wanted):
        print(f"installing the Python stack into {venv} (about 3 GB, once)", file=sys.stderr, flush=True)
        install(venv, python)
        mark.write_text(wanted + "\n")
    os.execv(python, [str(python), *sys.argv])


def install(venv: Path, python: Path) -> None:
    steps = [
        [sys.executable, "-m", "venv", str(venv)],
        [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(REQUIREMENTS)],
    ]
    for command in steps:
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            sys.exit(
                f"{Path(sys.argv[0]).name}: '{' '.join(command)}' failed (see above). It needs python3-venv, the network "
                "and about 8 GB of disk; or name a venv that has the packages of Scripts/python-stack.txt with --venv."
            )
