# Everything runs in .venv; the first target that needs it creates it. Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
# Bytecode is written when a module is first imported, even where the environment says not to, as images of containers do:
# compiling all modules while they are installed takes more than half of the time of the installation.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test coverage lint check architectures docs schema clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.ready ## Run GLUE, ax, imdb and ttc4900 in test mode, two at a time, and print the leaderboard (1 minute)
	$(BIN)/harness sweep --tasks glue ax imdb ttc4900 --test-mode --max-jobs 2
	$(BIN)/harness leaderboard --results results/test-mode

# One thread per process: test processes with several threads each on two cores take many times as long. Three of them,
# since tests of clusters wait most of their time.
test: .venv/.ready ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

coverage: .venv/.ready ## Run the tests and show the lines that none of them runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov=harness --cov-report=term-missing:skip-covered

lint: .venv/.ready ## Check formatting, style, types and dead code
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy harness
	$(BIN)/vulture

check: lint test ## Do what every change must pass: lint and test

architectures: .venv/.ready ## Try a tiny model of every architecture (docs/architectures.md, 2 minutes); make test tries some
	@OMP_NUM_THREADS=1 ACCELERATE_USE_CPU=yes HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 HARNESS_CACHE= PYTHONPATH=tests $(BIN)/python -m support.architectures

docs: .venv/.ready ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site

schema: .venv/.ready ## Write the JSON schema of a run's record
	@mkdir -p results
	$(BIN)/python -m harness.facts.records > .venv/schema.json
	mv .venv/schema.json results/run_record.schema.json

clean: ## Remove everything that these targets made, but no real run's record
	rm -rf .venv .venv-wheel build dist site results/test-mode .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
	find harness tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { \
	    echo "$(PYTHON) not found. Install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo "$(PYTHON) is $$($(PYTHON) --version); this needs 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	    echo "$(PYTHON) cannot create virtual environments: its modules venv and ensurepip are missing." >&2; \
	    echo "On Debian and Ubuntu: apt-get install python3-venv (or python3.12-venv for that version)" >&2; \
	    exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[dev]'
	@touch $@
