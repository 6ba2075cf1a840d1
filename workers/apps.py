"""The app ``workers``: no models, the command ``runworker``."""

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _


class WorkersConfig(AppConfig):
    name = "workers"
    label = "workers"
    verbose_name = _("Aftersave workers")

    def __init__(self, app_name: str, app_module: ModuleType | None) -> None:
        super().__init__(app_name, app_module)
        refuse_foreign_tasks()


def refuse_foreign_tasks() -> None:
    """Raise ImproperlyConfigured when the host's own module ``tasks`` hides ours."""
    ours = Path(__file__).resolve().parent.parent / "tasks" / "__init__.py"
    spec = find_spec("tasks")
    found = Path(spec.origin).resolve() if spec and spec.origin else None
    if found != ours:
        raise ImproperlyConfigured(
            "Aftersave is imported as 'tasks', but Python finds another module of that name first: "
            f"{found}. Aftersave's own is {ours}. Rename your module, or move it into a package."
        )
