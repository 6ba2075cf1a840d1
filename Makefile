PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
# Elsewhere each run has an order of its own, which its first lines name.
PYTEST += $(if $(CI),--randomly-seed=1042)
# By what is left out, so that a new folder of tests is never forgotten.
IN_PROCESS := tests --ignore=tests/acceptance --ignore=tests/browser
# Two at a time, each with a server of its own; a file's tests stay together, with what they set up.
IN_PROCESS += -n 2 --dist loadfile

.PHONY: install demo test lint types bench services messages screenshots clean
.PHONY: test-static test-sqlite test-postgres test-mariadb test-acceptance test-browser

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	@# Debian's python3 without python3-venv cannot put pip there; its own pip can.
	$(PYTHON) -m venv $(VENV) 2>/dev/null || $(PYTHON) -m venv --clear --without-pip $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/python manage.py demo

# Fast first. Each database runs the same tests; real worker processes then run on PostgreSQL.
test: install services
	$(MAKE) test-static
	$(MAKE) test-sqlite
	$(MAKE) test-postgres
	$(MAKE) test-mariadb
	$(MAKE) test-acceptance
	$(MAKE) test-browser

services:
	@tests/services.sh

test-static: lint types
	$(BIN)/lint-imports
	$(BIN)/python manage.py check
	$(BIN)/python manage.py makemigrations --check --dry-run

test-sqlite: install
	TEST_DB=sqlite $(PYTEST) $(IN_PROCESS)

test-postgres: install
	TEST_DB=postgres $(PYTEST) $(IN_PROCESS)

test-mariadb: install
	@if tests/services.sh has mariadb; then \
		TEST_DB=mariadb $(PYTEST) $(IN_PROCESS); \
	else \
		echo "NOT RUN: the tests on MariaDB"; \
	fi

test-acceptance: install
	TEST_DB=postgres $(PYTEST) tests/acceptance

test-browser: install
	TEST_DB=postgres $(PYTEST) tests/browser

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks

# German and French texts for translators: needs GNU gettext.
messages: install
	cd tasks && ../$(BIN)/django-admin makemessages -l de -l fr --no-location --no-obsolete
	cd tasks && ../$(BIN)/django-admin compilemessages

# The pictures of the documentation: needs Chromium.
screenshots: install
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf $(VENV) build dist staticfiles .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
