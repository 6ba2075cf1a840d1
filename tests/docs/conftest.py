"""Pages are the same on every database: what starts processes does so once, on SQLite."""

from tests.plugin import TEST_DB

collect_ignore = []
if TEST_DB != "sqlite":
    collect_ignore += ["test_tutorial.py", "test_examples.py"]
if TEST_DB != "postgres":
    collect_ignore += ["test_sql.py"]
