"""The example host's settings, read by processes with an environment of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
VARIABLES = (
    *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "EMAIL_URL"),
    *("CRM_URL", "CSRF_TRUSTED_ORIGINS", "LOG_LEVEL", "DEFAULT_FROM_EMAIL"),
    "DJANGO_SETTINGS_MODULE",
)


def python(code: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT,
        env=clean | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def value(expression: str, *arguments: str, **env: str) -> str:
    done = python(f"from config import settings; print({expression})", *arguments, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_with_nothing_set_the_host_is_a_developers_on_sqlite():
    assert value("settings.DEBUG") == "True"
    assert value("settings.DATABASES['default']['ENGINE']") == "django.db.backends.sqlite3"
    assert value("settings.CHANNEL_LAYERS['default']['BACKEND']").endswith("InMemoryChannelLayer")
    assert value("settings.EMAIL_BACKEND").endswith("console.EmailBackend")


def test_sqlite_gets_what_several_processes_on_one_file_need():
    options = value("settings.DATABASES['default']['OPTIONS']", DATABASE_URL="sqlite:////tmp/x.db")
    assert "'transaction_mode': 'IMMEDIATE'" in options
    assert "journal_mode=WAL" in options
    assert "'timeout': 20" in options


@pytest.mark.parametrize("secret", ["", "insecure-development-key-set-SECRET_KEY-in-production"])
def test_debug_off_with_the_default_secret_refuses_to_start_and_says_what_to_set(secret):
    done = python("import config.settings", DEBUG="0", SECRET_KEY=secret)
    assert done.returncode != 0
    assert "ImproperlyConfigured" in done.stderr
    assert "Set SECRET_KEY" in done.stderr


def test_a_secret_of_ones_own_turns_debug_off():
    assert value("settings.DEBUG", SECRET_KEY="long and random") == "False"
    assert value("settings.DEBUG", SECRET_KEY="long and random", DEBUG="1") == "True"


def test_the_environment_names_the_services():
    env = {
        "DATABASE_URL": "postgres://shop:secret@db.example:5433/orders",
        "REDIS_URL": "redis://cache.example:6379/3",
        "EMAIL_URL": "smtp+tls://mailer:pw@mail.example:587",
        "ALLOWED_HOSTS": "shop.example,www.shop.example",
    }
    database = value("settings.DATABASES['default']", **env)
    for part in ("django.db.backends.postgresql", "orders", "db.example", "5433", "secret"):
        assert part in database
    assert value("settings.CHANNEL_LAYERS['default']['CONFIG']", **env) == str(
        {"hosts": [env["REDIS_URL"]]}
    )
    assert value(
        "(settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_USE_TLS)", **env
    ) == str(("mail.example", 587, True))
    assert value("settings.ALLOWED_HOSTS", **env) == str(["shop.example", "www.shop.example"])


def test_workers_leave_daphne_out_and_pages_have_it():
    assert value("'daphne' in settings.INSTALLED_APPS") == "True"
    assert value("'daphne' in settings.INSTALLED_APPS", "runworker") == "False"


def test_our_runworker_comes_before_that_of_channels():
    apps = value("' '.join(settings.INSTALLED_APPS)").split()
    assert apps.index("workers") < apps.index("channels")


def test_commands_work_with_nothing_set():
    done = python("import manage; manage.main()", "check")
    assert done.returncode == 0, done.stderr


def test_static_files_are_served_with_debug_off(client, settings):
    assert not settings.DEBUG
    response = client.get("/static/admin/css/base.css")
    assert response.status_code == 200
    assert b"".join(response.streaming_content)
    assert client.get("/static/no/such.css").status_code == 404
