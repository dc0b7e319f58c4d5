"""A pinned environment for each peer: a venv below the bench's cache, made once.

It sees the packages of the bench's own environment behind its own (a .pth file), so that torch, 5 GB, is there once;
what a peer pins otherwise is installed into the venv and comes first. Each file lists everything that differs, so pip
resolves nothing (`--no-deps`): a resolver would choose another torch for clip-retrieval's old setuptools.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from hashlib import sha256
from pathlib import Path

PEERS = Path(__file__).parents[1] / "peers"
READY = ".ready"


class InstallError(Exception):
    """A peer can't be installed; the text is the reason."""


def python_of(name: str, cache: Path) -> str:
    """Return the interpreter of the environment that `peers/NAME.txt` pins. Raises `InstallError`."""
    requirements = PEERS / f"{name}.txt"
    shared = sysconfig.get_path("purelib")
    pinned = f"{sys.version}|{shared}|{requirements.read_text()}"
    place = cache / "environments" / f"{name}-{sha256(pinned.encode()).hexdigest()[:12]}"
    python = place / "bin/python"
    if (place / READY).exists():
        return str(python)
    print(f"installing {name} in {place}", file=sys.stderr)
    shutil.rmtree(place, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(place)])
    (place / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages/shared.pth").write_text(
        f"{shared}\n"
    )
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "-r", str(requirements)])
    (place / READY).touch()
    return str(python)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InstallError(reason(done.stdout + done.stderr))


def reason(log: str) -> str:
    """Return the line of pip's output that says why it failed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:] or ["no output"]
    return errors[0].removeprefix("ERROR:").strip()
