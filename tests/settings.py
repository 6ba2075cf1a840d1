"""The example host's settings plus the app of test-only handlers.

Worker processes started by tests read this module too, so everything comes from the environment.
"""

from config.settings import *  # noqa: F403
from config.settings import DATABASES, INSTALLED_APPS, database, env

INSTALLED_APPS = [*INSTALLED_APPS, "tests.workload"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A second database, for hosts that keep records in more than one.
if OTHER_DATABASE_URL := env.str("OTHER_DATABASE_URL", default=""):
    DATABASES["other"] = database(OTHER_DATABASE_URL)

for settings in DATABASES.values():
    # A file, not memory: threads and other processes of a test look at the same rows.
    if settings["ENGINE"] == "django.db.backends.sqlite3":
        settings["TEST"] = {"NAME": f"{settings['NAME']}-test"}

# A test says what it needs of the engine's settings by environment, for its worker processes too.
AFTERSAVE = {**AFTERSAVE, **env.json("AFTERSAVE_SETTINGS", default={})}  # noqa: F405
