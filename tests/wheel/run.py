"""The built wheel in projects made by `django-admin startproject`: tasks run, the overview opens.

Once with the oldest supported Django on this Python, once with the newest Django where a Python
for it is on this machine. Ends with a line "N passed, N failed".
"""

import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
HOST = Path(__file__).resolve().parent / "host"
OLDEST = "django==5.2.*"
NEWEST = "django==6.1.*"
NEWEST_NEEDS = (3, 12)

SETTINGS = """
INSTALLED_APPS = ["tasks", "workers", "channels", "shop", *INSTALLED_APPS]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"  # must not make migrations for our apps
DATABASES["default"]["OPTIONS"] = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}
if "MAILERS" not in globals():  # Django 6.1's own settings print mails, too
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
"""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="aftersave-wheel-") as directory:
        wheel = build_wheel(Path(directory))
        outcomes = [
            passes(wheel, Path(directory) / str(number), django, python)
            for number, (django, python) in enumerate(hosts())
        ]
    print(f"{sum(outcomes)} passed, {len(outcomes) - sum(outcomes)} failed", flush=True)
    return 0 if all(outcomes) else 1


def hosts() -> Iterator[tuple[str, str]]:
    yield OLDEST, sys.executable
    python = newest_python()
    if python:
        yield NEWEST, python
    else:
        needs = ".".join(map(str, NEWEST_NEEDS))
        print(f"NOT RUN: the wheel with {NEWEST}, no Python {needs} or newer on this machine")


def newest_python() -> str | None:
    """The newest Python on the PATH or in pyenv that can run the newest Django."""
    found = {}
    for candidate in candidates():
        version = version_of(candidate)
        if version and version >= NEWEST_NEEDS:
            found.setdefault(version, candidate)
    return found[max(found)] if found else None


def candidates() -> Iterator[str]:
    yield sys.executable
    for name in ("python3", *(f"python3.{minor}" for minor in range(12, 15))):
        if path := shutil.which(name):
            yield path
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False)
        yield from map(str, Path(root.stdout.strip()).glob("versions/3.*/bin/python"))


def version_of(python: str) -> tuple[int, ...] | None:
    # A shim of pyenv is on the PATH also for versions that it then refuses to run.
    code = "import sys, venv; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return tuple(map(int, done.stdout.split()))


def build_wheel(directory: Path) -> Path:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", directory, cwd=PROJECT)
    (wheel,) = directory.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"tasks", "workers"}, f"the wheel installs {tops}"
    for package in ("tasks", "workers"):
        files = [path for path in (PROJECT / package).rglob("*") if path.is_file()]
        needed = {str(path.relative_to(PROJECT)) for path in files if path.suffix != ".pyc"}
        missing = sorted(needed - set(names))
        assert not missing, f"not in the wheel: {missing}"
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "htmx-LICENSE.txt", "uplot-LICENSE.txt"}, licences
    return wheel


def passes(wheel: Path, directory: Path, django: str, python: str) -> bool:
    print(f"wheel with {django} on {python}", flush=True)
    try:
        run_an_order(wheel, directory, django, python)
    except (AssertionError, subprocess.CalledProcessError):
        traceback.print_exc()
        return False
    return True


def run_an_order(wheel: Path, directory: Path, django: str, python: str) -> None:
    binaries = install(wheel, directory, django, python)
    host = directory / "host"
    shutil.copytree(HOST, host)
    run(binaries / "django-admin", "startproject", "website", host, cwd=directory)
    with (host / "website" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)

    def manage(*arguments: str) -> str:
        return run(binaries / "python", "manage.py", *arguments, cwd=host)

    manage("makemigrations", "shop")
    manage("makemigrations", "--check", "--dry-run")
    manage("check", "--fail-level", "WARNING")
    manage("migrate", "--verbosity", "0")
    manage("shell", "--command", "import shop.order; shop.order.place()")
    manage("runworker", "--drain")
    print(manage("shell", "-v0", "--command", "import shop.order; shop.order.check()").strip())
    print(manage("shell", "-v0", "--command", "import shop.order; shop.order.look()").strip())


def install(wheel: Path, directory: Path, django: str, python: str) -> Path:
    """The programs of a new environment with nothing but the wheel and what it depends on."""
    directory.mkdir()
    # Without pip: a Python of Debian has none to put there.
    run(python, "-m", "venv", "--without-pip", directory / "venv", cwd=directory)
    constraints = directory / "constraints.txt"
    lines = (PROJECT / "constraints.txt").read_text().splitlines(keepends=True)
    constraints.write_text("".join(line for line in lines if not line.startswith("Django==")))
    binaries = directory / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", binaries / "python", "install", "--quiet"]
    run(*pip, "--disable-pip-version-check", "-c", constraints, django, wheel, cwd=directory)
    return binaries


def run(*command: str | Path, cwd: Path) -> str:
    """What the command printed. Nothing of this project's environment reaches it."""
    unwanted = ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "PYTHONPATH", "VIRTUAL_ENV")
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key not in unwanted},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", flush=True)
        done.check_returncode()
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
