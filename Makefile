# Every command makes its own virtual environment when there is none, and does nothing twice.
#
#   make demo     install, count the words of a real text, show the table        make test    install, run the tests
#   make check    lint and types          make sim SEEDS=500    random systems under the simulated loop
#                                         and LOOP_SEEDS=50000 random programs with loops, CRASH_SEEDS=2000 killed hosts
#   make chaos KILLS=100   kill -9 real hosts under load               make soak MINUTES=20   clients that misbehave
#   make fuzz TRIES=100000   bytes of chance as WASM modules           make wasm-oldest  tests of WASM with its oldest engine
#   make bench    every benchmark, with its baseline (BENCH=--quick for a short look)
#   make wasm     compile the guests of examples/wasm (zig, componentize-py, and from npm AssemblyScript and jco)
#   make docs     the documentation site, into site/      make page     the page of a host, in a real browser

PYTHON ?= python3
VENV ?= .venv
SEEDS ?= 200
CRASH_SEEDS ?= 2000
KILLS ?= 100
MINUTES ?= 20
LOOP_SEEDS ?= 50000
TRIES ?= 100000
BENCH ?=
RUN = $(VENV)/bin/python

.PHONY: demo test check sim chaos soak cases bench docs page wasm wasm-oldest fuzz format clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/dev-installed: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

$(VENV)/bench-installed: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

$(VENV)/wasm-installed: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[wasm-build]'
	npm install --silent --prefix $(VENV)/node assemblyscript@0.28.20 @bytecodealliance/jco@1.35.0
	touch $@

$(VENV)/browser-installed: $(VENV)/dev-installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	touch $@

demo: $(VENV)/installed
	$(RUN) -m examples.wordcount

test: $(VENV)/dev-installed
	$(RUN) -m pytest -m "not slow"

wasm-oldest: # the oldest engine that is supported, in an environment of its own
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]' wasmtime==49.0.0
	$(VENV)-oldest/bin/python -m pytest tests/wasm/test_functions.py tests/wasm/test_conformance.py tests/wasm/test_bad_modules.py tests/wasm/test_components.py

fuzz: $(VENV)/dev-installed
	$(RUN) tests/wasm/fuzz.py --tries $(TRIES)

cases: $(VENV)/dev-installed
	$(RUN) -m pytest tests/cases

sim: $(VENV)/dev-installed
	SEEDS=$(SEEDS) LOOP_SEEDS=$(LOOP_SEEDS) CRASH_SEEDS=$(CRASH_SEEDS) $(RUN) -m pytest tests/sim

chaos: $(VENV)/dev-installed
	$(RUN) tests/e2e/chaos.py --kills $(KILLS)

check: $(VENV)/dev-installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

soak: $(VENV)/dev-installed
	$(RUN) tests/e2e/soak.py --minutes $(MINUTES)

bench: $(VENV)/bench-installed
	for benchmark in ask actors peers words loops floods state doors memory growth wasm; do $(RUN) -m benchmarks.$$benchmark $(BENCH) || exit 1; done

docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

wasm: $(VENV)/wasm-installed
	$(RUN) -m examples.wasm.build

page: $(VENV)/browser-installed
	$(RUN) -m pytest tests/e2e/test_page.py

format: $(VENV)/dev-installed
	$(RUN) -m ruff check --fix --quiet .
	$(RUN) -m ruff format --quiet .

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis
