# Each target first makes .venv and installs what it needs into it.
PYTHON ?= python3
MODEL ?= amfnet
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-oldest lint figures bench

demo: .venv/runtime
	$(BIN)/python -m tools.demo --model $(MODEL)

test: .venv/dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# the unit tests with the oldest versions that requirements.txt and requirements-geo.txt allow; all else is .venv's
test-oldest: .venv/oldest
	.venv-oldest/bin/python -m pytest -m "not slow and not gpu" --numprocesses auto --maxprocesses 4 tests/datasets tests/utils

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

figures: checkpoints/demo-amfnet/predict-test/metrics.json checkpoints/demo-hanet/predict-test/metrics.json
	awk '/^```bash/ {on = 1; next} /^```/ {on = 0} on' docs/figures.md | PATH="$(CURDIR)/$(BIN):$$PATH" sh -ex

checkpoints/demo-%/predict-test/metrics.json: | .venv/runtime
	$(BIN)/python -m tools.demo --model $*

bench: .venv/dev
	$(BIN)/python -m tools.benchmarks --short --markdown speed.md

.venv/runtime: requirements.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.txt
	touch $@

.venv/dev: $(wildcard requirements*.txt)
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements-dev.txt
	touch .venv/runtime $@

.venv/oldest: .venv/dev
	$(PYTHON) -m venv --clear .venv-oldest
	sed -n '/^torch/d; s/>=/==/p' requirements.txt requirements-geo.txt | \
		xargs .venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all:
	$(BIN)/python -c "import site; print(site.getsitepackages()[0])" > \
		"$$(.venv-oldest/bin/python -c 'import site; print(site.getsitepackages()[0])')/newest.pth"
	touch $@
