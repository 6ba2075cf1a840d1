"""One host for both engines: the same apps, except the engine's own."""

import os

ENGINES = {
    "aftersave": ["tasks", "workers"],
    "django_tasks_db": ["django_tasks", "django_tasks_db"],
}
ENGINE = os.environ["BENCH_ENGINE"]

SECRET_KEY = "a benchmark keeps no secrets"
DEBUG = False
USE_TZ = True
INSTALLED_APPS = [
    *(["daphne"] if os.environ.get("BENCH_DAPHNE") else []),
    *ENGINES[ENGINE],
    "channels",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "benchmarks.host.bench",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "USER": os.environ["PGUSER"],
        "NAME": os.environ["PGDATABASE"],
    }
}
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
if ENGINE != "django_tasks_db":
    del TASKS
