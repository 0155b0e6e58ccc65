# `make demo` and `make test` need Python 3.10 to 3.13 with pip, nothing else; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where pip's own index has no CPU build of torch (on Linux it has one with gigabytes of CUDA).
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
INSTALLED := $(VENV)/.installed

.PHONY: help demo test lint types tests package smoke tools clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

demo: $(INSTALLED) ## train baseline, SLA near and SLA far with three seeds each, and print the paired table
	$(BIN)/sla-ablate train experiment=demo hydra/launcher=local
	$(BIN)/sla-ablate report runs/demo

test: lint types tests package smoke ## everything that must pass

lint: $(INSTALLED) ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## mypy
	$(BIN)/mypy

tests: $(INSTALLED) ## pytest on two cores, slow tests included
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

package: $(INSTALLED) ## build the wheel and use it from an empty folder
	$(BIN)/python -m tests.package

smoke: $(INSTALLED) ## a miniature of the demo, end to end
	rm -rf runs/smoke
	$(BIN)/sla-ablate train experiment=demo sweep=smoke scale=smoke hydra/launcher=local
	$(BIN)/sla-ablate report runs/smoke

tools: ## chromium and pdflatex by apt-get, for the tests that open pages and compile tables (two minutes, half a GB)
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium texlive-latex-base texlive-latex-recommended

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null \
	|| $(BIN)/pip install -q "torch==$(TORCH)+cpu" 2>/dev/null \
	|| $(BIN)/pip install -q "torch==$(TORCH)+cpu" --extra-index-url $(TORCH_INDEX) 2>/dev/null \
	|| $(BIN)/pip install -q "torch==$(TORCH)"
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean: ## remove the environment and caches; runs stay
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
