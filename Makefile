# Every target sets up its own virtual environment first, so that `make demo` works in a fresh clone.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test check ops-check bench clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/sluice demo

# tests/ops needs promtool, Prometheus and kubectl: `make ops-check` runs it.
test: $(INSTALLED)
	$(BIN)/pytest --ignore=tests/ops -m 'not ray' --numprocesses=2 --dist=loadfile
	$(BIN)/pytest --ignore=tests/ops -m ray

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Manifests, rules, dashboards and the generated references; promtool and kubectl come with .ci/setup-ops.
$(VENV)/.ops: $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[ops]'
	touch $@

ops-check: $(VENV)/.ops
	$(BIN)/python -m service.docs --check
	TEST_SLUICE_OPS_REQUIRED=1 $(BIN)/pytest tests/ops

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.pipeline --json

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
