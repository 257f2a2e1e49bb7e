# `make help` lists the targets.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EDITION ?= mitxonline
RECORDINGS ?= tests/recordings
GROUP ?=
ARGS ?=
SEEDS ?= 1000
SEED ?=
# A comma in an argument of call.
, := ,
# Installs without pip's own lines; says afterwards how long it took.
define INSTALL
@began=$$(date +%s); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(1) && \
	echo "Installed in $$(( $$(date +%s) - began )) s."
endef
DEMO_STAMP := $(VENV)/.installed-for-the-demo
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all check docs wheel dist changelog replay bench chaos simulate format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Usher needs Python 3.11 or newer; set PYTHON=python3.12, for example."; exit 1; }
	@echo "Creating $(VENV) ...$(if $(filter demo,$(MAKECMDGOALS)), The first demo takes about three minutes in all.)"
	@$(PYTHON) -m venv $(VENV)

# What the demo needs. Packages for tests and checks are installed by the first target that uses them.
$(DEMO_STAMP): pyproject.toml requirements.lock | $(BIN)/python
	@echo "Installing what the demo needs into $(VENV); this takes a minute or two ..."
	$(call INSTALL,--constraint requirements.lock --editable '.[campus$(,)embedded]')
	@touch $(DEMO_STAMP)

$(STAMP): $(DEMO_STAMP)
	@echo "Installing what tests and checks need into $(VENV); this takes a minute ..."
	$(call INSTALL,--requirement requirements.lock)
	@touch $(STAMP)

install: $(STAMP) ## create .venv and install what development needs

demo: $(DEMO_STAMP) ## run application and LMS (ARGS="--lms-port 8001", for example)
	@$(BIN)/usher demo --edition $(EDITION) $(ARGS)

test: $(STAMP) ## run all but slow tests (GROUP="application shell": only these groups)
	@sh scripts/browser.sh >/dev/null
	@$(BIN)/python scripts/test.py $(GROUP)

test-all: $(STAMP) ## run every test, also slow ones and those on PostgreSQL
	@sh scripts/browser.sh >/dev/null
	@$(BIN)/python scripts/test.py --all

check: $(STAMP) ## lint, format, types, import rules, language, docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@test -f .cache/lms/manage.py || $(BIN)/python -m usher.embedded init .cache/lms --root-url http://localhost:8000 >/dev/null
	@$(BIN)/mypy
	@PYTHONPATH=src:campus $(BIN)/mypy --config-file config/mypy-application.ini
	@PYTHONPATH=src USHER_LMS_HOME=.cache/lms $(BIN)/mypy --config-file config/mypy-lms.ini
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python scripts/reference.py --check
	@$(BIN)/python -m pytest -qq -p no:django tests/cli/test_language.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "make check: nothing found."

docs: $(STAMP) ## write the generated pages, build the site into build/docs
	@$(BIN)/python scripts/reference.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict && echo "Open build/docs/index.html"

wheel: | $(BIN)/python ## build the wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . && ls dist/*.whl

dist: $(STAMP) ## build the wheel and the source distribution into dist/
	@mkdir -p build
	@$(BIN)/python -m build --outdir dist . >build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	@ls dist/*.whl dist/*.tar.gz

changelog: $(STAMP) ## join changelog.d/ into CHANGELOG.md (VERSION=0.2.0)
	@test -n "$(VERSION)" || { echo "Give the version: make changelog VERSION=0.2.0"; exit 1; }
	@$(BIN)/towncrier build --yes --version $(VERSION)

replay: $(STAMP) ## replay recorded exchanges of an LMS (RECORDINGS=folder)
	@$(BIN)/python -m usher.embedded replay $(RECORDINGS)

bench: $(STAMP) ## compare with serial calls (ARGS="--quick" for one small round)
	@PYTHONPATH=.:campus $(BIN)/python -m benchmarks $(ARGS)

chaos: $(STAMP) ## test under faults (ARGS="--operations 1000" for a short run)
	@PYTHONPATH=.:campus $(BIN)/python -m benchmarks.chaos $(ARGS)

simulate: $(STAMP) ## run the sync worker in virtual time (SEEDS=40 or SEED=17)
	@PYTHONPATH=.:src:campus $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(ARGS)

format: $(STAMP) ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lock: ## resolve the locked versions anew (needs uv)
	uv pip compile --universal --python-version 3.11 pyproject.toml --extra dev --upgrade --no-header -o requirements.lock

clean: ## remove .venv, caches, the demo's data and builds
	rm -rf $(VENV) .cache .demo build dist
