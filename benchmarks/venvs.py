"""Each peer in its own environment, made once from its pinned requirements."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.registry import ROOT, Peer

VENVS = ROOT / ".bench" / "venvs"


def binaries(peer: Peer) -> Path:
    return VENVS / peer.environment / "bin"


def ensure(peers: Iterable[Peer]) -> None:
    """Create what is missing or was made from other requirements; quick when nothing changed."""
    for peer in {peer.environment: peer for peer in peers}.values():
        digest = hashlib.sha256(peer.requirements.read_bytes()).hexdigest()
        stamp = VENVS / peer.environment / "requirements.sha256"
        if not stamp.exists() or stamp.read_text() != digest:
            _create(peer)
            stamp.write_text(digest)


def _create(peer: Peer) -> None:
    print(f"creating the environment of {peer.environment}", flush=True)
    folder = VENVS / peer.environment
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    pip = (sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"))
    _run(*pip, "install", "-q", "-r", str(peer.requirements))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
