# All set-up is here: `make demo` or `make test` on a machine with Python 3.11 to 3.13 and make.
#
#   make demo     create the environment, install, train a model on handwritten digits
#   make test     create the environment, install with the test tools, run every test
#   make lint     ruff
#   make types    mypy --strict on graphc and both backends
#   make bench    measure against other libraries, in an environment with them
#   make test-peers       layers, losses, optimisers and whole programs against PyTorch and others, at random
#   make test-thorough    up to a thousand random examples for each property (many minutes)
#   make test-models      AlexNet, VGG-19, GoogLeNet, ResNet-18 and DenseNet-121 at full size (minutes; 2 GiB of memory)
#   make test-embed       exported code: all targets under emulators, the examples, and times of calls from C (needs gcc)
#   make test-browser     a drawing's page and exported WebAssembly in headless Chromium (CHROMIUM=/path names another)
#   make test-equations   that LaTeX and KaTeX set every formula (needs pdflatex and node; installs KaTeX by npm)
#   make mnist MNIST=FOLDER    the convolutional net of examples/, on five splits of the digits and on MNIST (a minute)
#   make accuracy         every float32 input of each vector function, into docs/accuracy.md (an hour or two; needs cc)
#   make features         run the tests of docs/features.md and write it
#   make tutorial         run the chapters of docs/tutorial and write into them what they print
#   make pictures         draw the pictures of docs/pictures
#   make clean    remove build outputs and caches;  `make distclean` the environment, too
#
#   make PYTHON=python3.12 test                        choose the Python
#   make PYTHON=python3.12 VENV=.venv-3.12 test        ... beside another environment
#   make PYTEST_ARGS="-n 2 -k digits" test             pass arguments to pytest
#   make BENCH_ARGS="--quick --only conv" bench        ... and to the benchmarks

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
BENCH_ARGS ?=
MNIST ?=
CHROMIUM ?=

PY := $(VENV)/bin/python
RUN_INSTALLED := $(VENV)/.installed-run
TEST_INSTALLED := $(VENV)/.installed-test
BENCH_INSTALLED := $(VENV)/.installed-bench
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-peers run-test-peers test-thorough test-models test-embed test-browser test-equations mnist accuracy features tutorial pictures lint types bench run-bench clean distclean check-python
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: check-python $(RUN_INSTALLED)
	$(VENV)/bin/graphc demo

test: check-python $(TEST_INSTALLED)
	$(PY) -m pytest --doctest-modules tests graphc backends $(PYTEST_ARGS)

lint: check-python $(TEST_INSTALLED)
	$(PY) -m ruff check .

types: check-python $(TEST_INSTALLED)
	$(PY) -m mypy

# The peers pull in much, and other versions of it than the tests were run with: they get $(VENV)-bench.
bench:
	@$(MAKE) --no-print-directory VENV=$(VENV)-bench run-bench

run-bench: check-python $(BENCH_INSTALLED)
	$(PY) -m tests.bench $(BENCH_ARGS)

# In the peers' environment; what else these tests need is added to it.
test-peers:
	@$(MAKE) --no-print-directory VENV=$(VENV)-bench run-test-peers

run-test-peers: check-python $(BENCH_INSTALLED)
	$(PIP_INSTALL) "pytest>=8.3" "hypothesis>=6.100"
	$(PY) -m pytest -q tests/nn/test_against_torch.py tests/optim/test_torch.py tests/bench/test_peers.py

test-thorough: check-python $(TEST_INSTALLED)
	$(PY) -m pytest tests/conformance tests/backends --hypothesis-profile=thorough $(PYTEST_ARGS)

# The version of KaTeX that formulas are tested with. The test file's name keeps it out of `make test`.
KATEX := katex@0.16
build/katex/node_modules/katex/package.json:
	@command -v npm > /dev/null || { echo "make test-equations: npm is needed, which installs KaTeX"; exit 1; }
	mkdir -p build/katex
	npm install --silent --no-audit --no-fund --prefix build/katex $(KATEX)

test-equations: check-python $(TEST_INSTALLED) build/katex/node_modules/katex/package.json
	$(PY) -m pytest tests/render/compile_equations.py -n 0 $(PYTEST_ARGS)

# -s: each prints its times and its peak of memory. The file's name keeps it out of `make test`.
test-models: check-python $(TEST_INSTALLED)
	$(PY) -m pytest -s tests/examples/full_size_d10.py $(PYTEST_ARGS)

# What `make test` runs of it; the files whose names keep them out, by themselves (pytest leaves out a file that a folder
# beside it holds); then times, which nothing asserts.
test-embed: check-python $(TEST_INSTALLED)
	$(PY) -m pytest -rs tests/backends/llvm/test_export*.py tests/embed $(PYTEST_ARGS)
	$(PY) -m pytest -rs tests/embed/*_elsewhere.py $(PYTEST_ARGS)
	$(PY) -m tools.embed_bench

# Playwright drives a Chromium that is installed, and brings none. The files' names keep them out of `make test`.
test-browser: check-python $(TEST_INSTALLED)
	$(PIP_INSTALL) "playwright>=1.45"
	CHROMIUM="$(CHROMIUM)" $(PY) -m pytest -q tests/browser/*_in_chromium.py $(PYTEST_ARGS)

# -s: it prints each accuracy. Without MNIST=FOLDER the digits alone, which are in the package.
mnist: check-python $(TEST_INSTALLED)
	GRAPHC_TEST_MNIST="$(MNIST)" $(PY) -m pytest -s -rs tests/examples/full_size_d09.py $(PYTEST_ARGS)

accuracy: check-python $(TEST_INSTALLED)
	$(PY) tools/accuracy.py

features: check-python $(TEST_INSTALLED)
	$(PY) -m tools.features $(PYTEST_ARGS)

tutorial: check-python $(TEST_INSTALLED)
	$(PY) -m tools.tutorial --update

pictures: check-python $(TEST_INSTALLED)
	$(PY) -m tools.pictures

# An environment that exists is used as it is; it must have been made with the Python that was asked for.
check-python:
ifeq ($(origin PYTHON),command line)
	@if [ -x $(PY) ]; then \
	  have=`$(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])'`; \
	  want=`$(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'`; \
	  if [ "$$have" != "$$want" ]; then \
	    echo "make: $(VENV) was made with Python $$have, but $(PYTHON) is $$want."; \
	    echo "make: add VENV=.venv-$$want for a second environment, or run \`make distclean\` first."; \
	    exit 1; \
	  fi; \
	fi
endif

$(PY):
	@command -v $(PYTHON) > /dev/null || { \
	  echo "make: there is no $(PYTHON); install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3"; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "make: graphc needs Python 3.11, 3.12 or 3.13; $(PYTHON) is `$(PYTHON) --version`"; \
	  echo "make: name another one, for example: make PYTHON=python3.12 test"; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "make: $(PYTHON) cannot create environments, because its module venv or ensurepip is missing."; \
	  echo "make: on Debian and Ubuntu install the package python3-venv; or use a Python from python.org."; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are older than pyproject.toml when its dependencies may have changed.
$(RUN_INSTALLED): pyproject.toml | $(PY)
	$(PIP_INSTALL) --editable ".[draw]"
	@touch $@

$(TEST_INSTALLED): pyproject.toml | $(PY)
	$(PIP_INSTALL) --editable ".[test]"
	@touch $@ $(RUN_INSTALLED)

# A peer that cannot be installed is left out. None may change the version of anything that graphc runs on.
$(BENCH_INSTALLED): pyproject.toml tests/bench/peers.txt | $(PY)
	$(PIP_INSTALL) --editable .
	@$(PY) -m pip freeze --exclude-editable --disable-pip-version-check > $(VENV)/constraints.txt
	@: > $(VENV)/peers.log
	@for peer in `sed 's/#.*//' tests/bench/peers.txt`; do \
	  echo "$(PIP_INSTALL) $$peer"; \
	  $(PIP_INSTALL) --only-binary=:all: --constraint $(VENV)/constraints.txt "$$peer" >> $(VENV)/peers.log 2>&1 || \
	    echo "make: $$peer cannot be installed and is left out; $(VENV)/peers.log says why"; \
	done
	@touch $@

clean:
	rm -rf build dist graphc-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find graphc backends tests examples -type d -name __pycache__ -prune -exec rm -rf {} + 2> /dev/null || true

distclean: clean
	@for made in $(VENV) $(VENV)-bench; do \
	  if [ -e $$made/pyvenv.cfg ]; then echo "rm -rf $$made"; rm -rf $$made; fi; \
	done
