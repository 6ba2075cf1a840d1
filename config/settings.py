"""The example host's settings, all of them from the environment.

With nothing set: SQLite, an in-memory channel layer, mail on the console, DEBUG on.
"""

import sys
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent

INSECURE_SECRET_KEY = "insecure-development-key-set-SECRET_KEY-in-production"
SECRET_KEY: str = env.str("SECRET_KEY", default="") or INSECURE_SECRET_KEY
# Whoever sets a secret of their own is in production until they say otherwise.
DEBUG: bool = env.bool("DEBUG", default=SECRET_KEY == INSECURE_SECRET_KEY)
if not DEBUG and SECRET_KEY == INSECURE_SECRET_KEY:
    raise ImproperlyConfigured(
        "DEBUG is off and SECRET_KEY is not set: anyone could forge sessions. Set SECRET_KEY to a "
        "long random value, or DEBUG=1 on a developer's machine."
    )

ALLOWED_HOSTS: list[str] = env.list(
    "ALLOWED_HOSTS", default=[".localhost", "localhost", "127.0.0.1", "[::1]"]
)
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])


def database(url: str) -> dict[str, Any]:
    """The settings of the database with this URL."""
    config: dict[str, Any] = env.db_url_config(url)
    if config["ENGINE"] == "django.db.backends.sqlite3":
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            **config.get("OPTIONS", {}),
        }
    if config["ENGINE"] == "django.db.backends.mysql":
        prefer_mysqlclient()
    return config


def prefer_mysqlclient() -> None:
    """Take PyMySQL, which needs no compiler, where mysqlclient is not installed."""
    try:
        import MySQLdb  # noqa: F401
    except ImportError:
        import pymysql

        pymysql.install_as_MySQLdb()


DATABASE_URL: str = env.str("DATABASE_URL", default="") or f"sqlite:///{BASE_DIR / 'db.sqlite3'}"
DATABASES = {"default": database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Daphne serves `runserver`. Workers leave it out: it imports Twisted, which they never use.
SERVES_PAGES = "runworker" not in sys.argv

INSTALLED_APPS = [
    *(["daphne"] if SERVES_PAGES else []),
    "tasks",
    "workers",
    "channels",
    "orders",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

#: Where the shop is reached from outside, for links in its mails.
SITE_URL: str = env.str("SITE_URL", default="")

AFTERSAVE: dict[str, Any] = {
    "BASE_URL": SITE_URL,
    "RELEASE": env.str("RELEASE", default=""),
}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

REDIS_URL: str = env.str("REDIS_URL", default="")
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL]},
    }
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}

email = env.email_url("EMAIL_URL", default="consolemail://")
EMAIL_BACKEND: str = email["EMAIL_BACKEND"]
EMAIL_HOST: str = email["EMAIL_HOST"] or "localhost"
EMAIL_PORT: int = email["EMAIL_PORT"] or 25
EMAIL_HOST_USER: str = email["EMAIL_HOST_USER"] or ""
EMAIL_HOST_PASSWORD: str = email["EMAIL_HOST_PASSWORD"] or ""
EMAIL_FILE_PATH: str = email["EMAIL_FILE_PATH"] or ""
EMAIL_USE_TLS: bool = email.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL: bool = email.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL: str = env.str("DEFAULT_FROM_EMAIL", default="Aftersave shop <shop@localhost>")

CRM_URL: str = env.str("CRM_URL", default="")

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        name: {"level": env.str("LOG_LEVEL", default="INFO")}
        for name in ("tasks", "workers", "orders")
    },
}
