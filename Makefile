# One command for each habit. Each makes .venv when there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help quickstart smoke study test check bench docs clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# torch first and by pip: its CPU build is found where it is offered, and nothing later replaces it.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,check]'
	@touch $@

quickstart: $(VENV)/ready ## train and evaluate a real small model on the sample data; writes runs/quickstart/report.html
	$(BIN)/alignprism models fetch gemma-3-270m
	$(BIN)/alignprism quickstart

smoke: $(VENV)/ready ## all four methods with very few prompts and steps (runs/smoke/)
	$(BIN)/alignprism quickstart --size smoke

study: $(VENV)/ready ## all methods with three training seeds: hours, resumable (runs/study/)
	$(BIN)/alignprism quickstart --size study

test: $(VENV)/ready ## run the tests, three files at a time (many wait for processes and servers)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: $(VENV)/ready ## format, lint, strict types
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

bench: $(VENV)/ready ## measure the figures of docs/benchmarks.md: hours, on an otherwise idle machine (DATA=folder of published sets)
	$(BIN)/python benchmarks/decoding.py --data $(DATA)
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/training_vs_trl.py --data $(DATA)
	$(BIN)/python benchmarks/judge_head.py --data $(DATA)
	$(BIN)/python benchmarks/judges.py --data $(DATA)
	$(BIN)/python benchmarks/calls.py
	$(BIN)/python benchmarks/ray_nodes.py
	$(BIN)/python benchmarks/intervals.py
	$(BIN)/python benchmarks/correction.py --data $(DATA)/rtp_lx
	$(BIN)/python benchmarks/pairwise.py
	ALIGNPRISM_SHARED_DATA=$(DATA) $(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/writers.py
	$(BIN)/python benchmarks/quickstart.py

docs: $(VENV)/ready ## write docs/study.md and docs/cli.md from the code
	$(BIN)/python -m alignprism.reference docs

clean: ## remove what the commands above made, but no run
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
