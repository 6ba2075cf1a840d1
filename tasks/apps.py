"""The app ``tasks``."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from tasks.exceptions import InvalidSetting

DISCOVERED = ("handlers", "rules")


class TasksConfig(AppConfig):
    name = "tasks"
    label = "tasks"
    verbose_name = _("Aftersave")
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: ModuleType | None) -> None:
        super().__init__(app_name, app_module)
        refuse_shadow("workers")

    def ready(self) -> None:
        from tasks import checks, sweep  # noqa: F401 - our own handlers work in every process
        from tasks.conf import aftersave_settings

        checks.register()
        wanted = aftersave_settings.AUTODISCOVER
        if wanted is True:
            autodiscover_modules(*DISCOVERED)
        for label in wanted if isinstance(wanted, list | tuple) else ():
            _discover(label)


def _discover(label: str) -> None:
    try:
        package = apps.get_app_config(label).name
    except LookupError as error:
        raise InvalidSetting(f"AFTERSAVE['AUTODISCOVER'] names {label!r}: {error}") from error
    for module in DISCOVERED:
        if find_spec(f"{package}.{module}"):
            import_module(f"{package}.{module}")


def refuse_shadow(package: str) -> None:
    """Raise ImproperlyConfigured when a module of the host hides our package of this name."""
    ours = Path(__file__).resolve().parent.parent / package / "__init__.py"
    spec = find_spec(package)
    found = Path(spec.origin).resolve() if spec and spec.origin else None
    if found != ours:
        raise ImproperlyConfigured(
            f"Aftersave needs the name {package!r}, but Python finds another module of that name "
            f"first: {found}. Aftersave's own is {ours}. Rename yours or put it into a package."
        )
