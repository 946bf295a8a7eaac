# make run    set up a virtual environment and run the main job on this machine (an NVIDIA GPU, else the CPU)
# make test   set up and run the tests
# make report rebuild results/report from the committed records: page, tables, figures; no GPU, under a minute
# make lint   linter, formatter and type checker          make wheel   build, install elsewhere, import every module
#
# PYTHON=python3.12     the interpreter to build the environment with
# TORCH='torch==2.11.*' the torch requirement; by default the newest CPU build that the configured index offers
#                       where there is no NVIDIA GPU, else whatever pyproject.toml asks for
# ARGS='...'            passed on: make run ARGS='--budget 60s', make test ARGS='-k cost'
PYTHON ?= python3
VENV ?= .venv
TORCH ?=
ARGS ?=
BIN := $(VENV)/bin

# The runs that the report is made of, every device's; RUNS='...' for others.
RUNS ?= $(patsubst %/records.parquet,%,$(wildcard results/*/dlmc/records.parquet results/*/kernels/records.parquet))

.PHONY: run test report lint format wheel clean force
.DELETE_ON_ERROR:

run: $(VENV)/.installed
	$(BIN)/sparsity-roofline run $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(ARGS)

report: $(VENV)/.installed
	$(BIN)/sparsity-roofline report $(RUNS) --out results/report/report.html \
		--tables results/report/tables --figures results/report/figures $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.installed-dev
	PYTHON='$(PYTHON)' TORCH='$(TORCH)' tools/check-wheel $(BIN)/python

# A requirement of one's own is looked at every time; it costs little where it is met.
$(VENV)/.installed: pyproject.toml tools/install-torch tools/install-package $(if $(TORCH),force)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	TORCH='$(TORCH)' tools/install-torch $(BIN)/python
	tools/install-package $(BIN)/python
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

clean:
	rm -rf $(VENV) build dist
