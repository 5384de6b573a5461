# Everything runs in .venv, which the first target that needs it makes. Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
LAUNCH := $(BIN)/accelerate launch -q --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
          --num_cpu_threads_per_process 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint check schema clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.ready ## Run every task in test mode on the CPU and print the leaderboard (under 6 minutes on two cores)
	@tasks=$$($(BIN)/harness tasks --names) || exit 1; \
	for task in $$tasks; do \
	    $(LAUNCH) harness/run.py --task $$task --test-mode --overwrite || exit 1; \
	done
	$(BIN)/harness leaderboard --results results/test-mode

# One thread a process: two test processes with two threads each on two cores take many times as long.
test: .venv/.ready ## Run the tests, with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --cov=harness --cov-report=term:skip-covered

lint: .venv/.ready ## Check formatting, style, types and dead code
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy harness
	$(BIN)/vulture

check: lint test ## Do what every change must pass: lint and test

schema: .venv/.ready ## Write the JSON schema of a run's record
	@mkdir -p results
	$(BIN)/python -m harness.facts.records > .venv/schema.json
	mv .venv/schema.json results/run_record.schema.json

clean: ## Remove all that these targets made, but no run's record
	rm -rf .venv .venv-wheel build dist results/test-mode .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
	find harness tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { \
	    echo "There is no $(PYTHON) here. Install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo "$(PYTHON) is $$($(PYTHON) --version); this needs 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments: its modules venv and ensurepip are missing." >&2; \
	    echo "On Debian and Ubuntu they come with: apt-get install python3-venv (or python3.12-venv, as the version is)" >&2; \
	    exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@
