# One entry for people and for CI. `make demo` and `make test` do all their own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
CONSTRAINTS := --constraint constraints.txt

# seconds of each target of make fuzz
FUZZ_SECONDS ?= 60

.PHONY: demo test lint type golden schema bench fuzz dev clean

demo: $(VENV)/installed  ## install, then run the main job
	$(BIN)/llmplan memory kimi-k2 --dtype fp8
	$(BIN)/llmplan fit --gpus 8xH100

test: dev  ## the whole suite
	$(BIN)/pytest -n auto

lint: dev  ## style, format, import order of the rooms, stale schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

type: dev  ## strict types
	$(BIN)/mypy

golden: dev  ## write the golden files and the outputs shown in docs anew; review them as text
	LLMPLAN_GOLDEN=write $(BIN)/pytest -q tests/test_golden.py
	LLMPLAN_DOCS=write $(BIN)/pytest -q tests/test_docs.py

schema: $(VENV)/installed  ## write the JSON schemas anew
	$(BIN)/llmplan schema model -o specs/model.schema.json
	$(BIN)/llmplan schema listed -o specs/listed/listed.schema.json
	$(BIN)/llmplan schema device -o hardware/device.schema.json
	$(BIN)/llmplan schema node -o hardware/node.schema.json
	$(BIN)/llmplan schema result -o docs/result.schema.json

bench: dev  ## speed and memory, side by side
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/startup.py

fuzz: $(VENV)/fuzzed  ## search every reader of files for inputs that break it; CONTRIBUTING.md says more
	for target in $$($(BIN)/python -m fuzz.targets); do \
		$(BIN)/python -m fuzz $$target $(FUZZ_SECONDS) || exit 1; \
	done

dev: $(VENV)/developed

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(CONSTRAINTS) --editable .
	touch $@

# torch first and by itself: a bare `torch` requirement may pull a build for GPUs
$(VENV)/developed: $(VENV)/installed
	$(PIP) install --quiet $(CONSTRAINTS) torch
	$(PIP) install --quiet $(CONSTRAINTS) --editable ".[dev,calibrate,oracles,report]"
	touch $@

$(VENV)/fuzzed: $(VENV)/installed
	$(PIP) install --quiet $(CONSTRAINTS) --editable ".[fuzz]"
	touch $@

clean:
	rm -rf $(VENV) .fuzz build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
