# Needs git, make and python3 (3.10 or later); everything else goes into .venv.
#
#   make run        train the character model: figures and numbers in runs/char_lm
#                   (make run ARGS="--steps 500 --seed 1")
#   make test       all tests (make test PYTEST_ARGS='-m "not slow"' leaves out the long ones)
#   make lint       ruff, and mypy on minigrad/
#   make docs       the site, in site/: lessons are run, links checked (DOCS_EXECUTE=false: not run)
#   make bench      all benchmarks, and a page of them in runs/benchmarks (downloads the peers)
#   make clean      remove .venv, caches and builds; runs/ stays

PYTHON ?= python3
PYTEST_ARGS ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
METADATA := setup.cfg pyproject.toml
RESULTS := runs/benchmarks

.PHONY: run test lint docs bench clean

run: $(VENV)/train.stamp
	$(BIN)/python -m models.char_lm $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy minigrad

docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/bench.stamp
	mkdir -p $(RESULTS)
	$(BIN)/python -m benchmarks.scalar
	$(BIN)/python -m benchmarks.startup --json $(RESULTS)/startup.json
	$(BIN)/python -m benchmarks.kernels --json $(RESULTS)/kernels.json
	$(BIN)/python -m benchmarks.scaling --json $(RESULTS)/scaling.json
	-$(BIN)/python -m benchmarks.peers --json $(RESULTS)/peers.json
	$(BIN)/python -m benchmarks.report $(RESULTS) --out $(RESULTS)/RESULTS.md

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps are written last, so an interrupted installation starts again.
$(VENV)/created.stamp:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/train.stamp: $(VENV)/created.stamp $(METADATA)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/created.stamp $(METADATA)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,train]'
	touch $@ $(VENV)/train.stamp

$(VENV)/docs.stamp: $(VENV)/created.stamp $(METADATA)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs,train]'
	touch $@ $(VENV)/train.stamp

$(VENV)/bench.stamp: $(VENV)/created.stamp $(METADATA)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[bench]'
	touch $@
