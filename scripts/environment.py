"""Makes .venv, the environment of this checkout, unless it stands there up to date.

    python3 scripts/environment.py [--triton VERSION]

Without a GPU the versions of constraints-cpu.txt are taken, with one the newest that
pyproject.toml allows. ``--triton`` puts another Triton into .triton-VERSION/ beside it: a folder
for PYTHONPATH, so that one installation of torch serves several. Needs Python 3.11 and pip.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "stamp"
CPU_CONSTRAINTS = ROOT / "constraints-cpu.txt"

CUDA_ADVICE = """\
This machine has no GPU, but pip's sources offer the pinned torch only with CUDA: several GB.
Point pip to PyTorch's index of builds for the CPU (its address stands in the install instructions
of pytorch.org) with the variable PIP_EXTRA_INDEX_URL, or accept the download with
LINCODEGEN_CUDA=1; then run this again."""


def has_gpu() -> bool:
    """Whether a CUDA device is there, or its builds are asked for with LINCODEGEN_CUDA=1."""
    if os.environ.get("LINCODEGEN_CUDA") == "1" or any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    smi = shutil.which("nvidia-smi")
    return smi is not None and subprocess.run([smi, "-L"], capture_output=True).returncode == 0


def pip() -> list[str]:
    """The command that installs into .venv, also where Python comes without ensurepip."""
    if (VENV / "bin" / "pip").exists():
        return [str(PYTHON), "-m", "pip"]
    return [sys.executable, "-m", "pip", "--python", str(PYTHON)]


def stamp(constraints: list[str]) -> str:
    """A digest of all that decides what .venv holds."""
    digest = hashlib.sha256(f"{VENV} {sys.version} {constraints}".encode())
    for file in (ROOT / "pyproject.toml", CPU_CONSTRAINTS):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def brings_cuda() -> bool:
    """Whether pip's sources offer the pinned torch only with CUDA; downloads nothing.

    Plain builds of torch bring CUDA on Linux on x86_64; a version that ends in +cpu does not.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    pinned = re.search(r"^torch==(\S+)$", CPU_CONSTRAINTS.read_text(), re.MULTILINE)
    versions = subprocess.run(
        [*pip(), "index", "versions", "torch"], check=True, capture_output=True
    )
    return pinned is not None and f"{pinned[1]}+cpu" not in versions.stdout.decode()


def make_environment() -> None:
    """Creates .venv and installs lincodegen with its test tools, editable."""
    gpu = has_gpu()
    constraints = [] if gpu else ["-c", str(CPU_CONSTRAINTS)]
    wanted = stamp(constraints)
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return
    print(f"setting up .venv for {'a GPU' if gpu else 'the CPU'}: a few minutes, once", flush=True)
    STAMP.unlink(missing_ok=True)
    if not PYTHON.exists():
        with_pip = importlib.util.find_spec("ensurepip") is not None
        venv.create(VENV, clear=True, with_pip=with_pip)
    if not gpu and brings_cuda():
        sys.exit(CUDA_ADVICE)
    subprocess.run([*pip(), "install", *constraints, "-e", f"{ROOT}[test]"], check=True)
    STAMP.write_text(wanted)


def add_triton(version: str) -> None:
    """Installs one Triton into .triton-VERSION/."""
    folder = ROOT / f".triton-{version}"
    if (folder / f"triton-{version}.dist-info").is_dir():
        return
    print(f"adding Triton {version}", flush=True)
    command = [*pip(), "install", "--no-deps", "--target", str(folder), f"triton=={version}"]
    subprocess.run(command, check=True)


def main() -> None:
    """Reads the command line."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whichever Python the caller has runs this
        sys.exit("lincodegen needs Python 3.11 or later; name one with PYTHON=python3.11.")
    parser = argparse.ArgumentParser(description="Make .venv, the environment of this checkout.")
    parser.add_argument("--triton", help="a version to put into .triton-VERSION/ besides")
    version = parser.parse_args().triton
    try:
        make_environment()
        if version:
            add_triton(version)
    except subprocess.CalledProcessError as error:
        sys.exit(f"this failed, with what it says above: {' '.join(error.cmd)}")


if __name__ == "__main__":
    main()
