"""The folder in which a demo keeps its data between two starts."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orders.demo.errors import AlreadyRunning, ForeignFolder


class Folder:
    """Data, logs, mails and secrets of one demo.

    Always below the system's temporary directory: root's PostgreSQL runs as another user, who must
    be able to enter the folder, and no permission of a home is opened for that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.mails = path / "mail"

    @classmethod
    def of_this_user(cls) -> "Folder":
        """The folder that a user's demos share. Raises ForeignFolder."""
        path = Path(tempfile.gettempdir()).resolve() / f"aftersave-demo-{os.getuid()}"
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise ForeignFolder(path)
        return cls(path)._prepared()

    @classmethod
    def fresh(cls) -> "Folder":
        """An empty folder that nobody else uses."""
        return cls(Path(tempfile.mkdtemp(prefix="aftersave-check-")).resolve())._prepared()

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def secret(self, name: str) -> str:
        """A password, made when first asked for and kept; nobody else can read it."""
        kept = self._secrets()
        if name not in kept:
            kept[name] = secrets.token_urlsafe(9 if name != "SECRET_KEY" else 48)
            self._write_privately("secrets.json", json.dumps(kept, indent=2))
        return kept[name]

    def note_address(self, address: str) -> None:
        """Where this demo is seen, for who starts a second one."""
        self._write_privately("address", address)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder. Raises AlreadyRunning."""
        with (self.path / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise AlreadyRunning(self.path, self._read("address")) from error
            self.note_address("")
            yield

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _prepared(self) -> "Folder":
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for folder in (self.logs, self.mails):
            folder.mkdir(mode=0o700, exist_ok=True)
        return self

    def _secrets(self) -> dict[str, str]:
        return json.loads(self._read("secrets.json") or "{}")

    def _read(self, name: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.path / name).read_text()
        return ""

    def _write_privately(self, name: str, text: str) -> None:
        draft = self.path / f"{name}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        draft.replace(self.path / name)
