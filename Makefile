# Needs Python >= 3.11 and make; everything else is installed into .venv.
PYTHON ?= python3
VENV   ?= .venv
PIP_ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint install clean help

help:
	@echo "make demo       install and run the whole pipeline on made-up patients (under 5 minutes on 2 cores)"
	@echo "make test       install and run the tests"
	@echo "make test-slow  install and run the long fault and soak tests"
	@echo "make lint       ruff and mypy"

install: $(STAMP)

$(STAMP): setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bts_auto needs Python >= 3.11; choose one with: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@echo "Installing into $(VENV) (about 2 GB; a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[test,dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/bts_demo -o bts_demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --timeout 300 -rs

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow --timeout 1200 -rs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info bts_demo
