"""What can go wrong in a demo, in words for who started it."""

from pathlib import Path


class DemoError(Exception):
    """Root of what ends a demo."""


class AlreadyRunning(DemoError):
    """The data folder belongs to a demo that runs now."""

    def __init__(self, folder: Path, holder: str) -> None:
        where = f" at {holder}" if holder else ""
        super().__init__(f"A demo runs already{where}, with its data in {folder}. End it first.")


class ForeignFolder(DemoError):
    """Somebody else made the folder that the demo would keep its data in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} is not a folder of your own; remove it and start again.")


class ProcessDied(DemoError):
    """A process that the demo started ended by itself."""

    def __init__(self, name: str, code: int, log: Path, tail: str) -> None:
        super().__init__(f"{name} ended with code {code}. The end of {log}:\n{tail}")


class TookTooLong(DemoError):
    """Something did not happen in time."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"Waited {seconds:.0f} s in vain for {what}.")


class Unexpected(DemoError):
    """A page or a row is not as it must be."""
