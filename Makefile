# One command runs the benchmark, one the tests; each makes .venv first if it is not there.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: bench test
bench: .venv/bench-ready
	dvc repro

test: .venv/test-ready
	ruff check . && ruff format --check . && pyright && pytest

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/bench-ready: pyproject.toml | .venv/bin/python
	python -m pip install -q -e .
	touch $@

.venv/test-ready: pyproject.toml | .venv/bin/python
	python -m pip install -q -e '.[test]'
	touch $@
