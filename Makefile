# Every target sets up what it needs in .venv, from a fresh clone.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint fmt vectors bench fuzz determinism exhaustive clean

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/.ready
	$(BIN)/python -m nmref demo

test: .venv/.ready
	$(BIN)/python -m pytest -n auto

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

vectors: .venv/.ready
	$(BIN)/python -m nmref.conformance.generate
	$(BIN)/python -m conformance.build

bench: .venv/.ready
	$(BIN)/python -m benchmarks

fuzz: .venv/.ready
	$(BIN)/python -m tests.fuzz --count 200000 --seed 1

determinism: .venv/.ready
	$(BIN)/python -m tests.determinism --venvs .venv/determinism

exhaustive: .venv/.ready
	$(BIN)/python -m nmref.conformance.exhaustive

clean:
	rm -rf .venv
