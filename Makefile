# Everything a newcomer runs: each target first makes .venv and installs what it needs into it.
PYTHON ?= python3
MODEL ?= amfnet
BIN := .venv/bin

.PHONY: demo test lint clean

.venv/runtime: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/dev: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch .venv/runtime $@
