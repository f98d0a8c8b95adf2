# `make demo` and `make test` do all set-up themselves: a virtual environment in .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The demo, and export, simulation and RTL after it, need no test, docs and training packages: without the whole environment it leaves them out.
DEMO_STAMP := $(if $(wildcard $(STAMP)),$(STAMP),$(VENV)/.installed-demo)
comma := ,
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2
# Two test processes on two cores: one thread each, or they fight.
TEST_ENV = OMP_NUM_THREADS=1

.PHONY: help accuracy demo test test-all lint docs setup committed icarus chromium tcl clean
help:
	@echo "make demo      set up, export the embedded digit network, run its C simulation, print the memory budget"
	@echo "make test      set up, then lint, type check and all tests (under 30 minutes on 2 cores)"
	@echo "make test-all  the same with the slow tests too"
	@echo "make docs      build the documentation into site/ (offline; open site/index.html)"
	@echo "make clean     remove the environment and everything that was built"

setup: $(STAMP)

$(STAMP) $(VENV)/.installed-demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fpga-squeeze needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; call make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[$(if $(filter .installed-demo,$(notdir $@)),csim$(comma)rtl,dev)]'
	@touch $@

demo: $(DEMO_STAMP)
	@$(BIN)/fpga-squeeze demo

# What the repository holds for readers although it is generated: the sources of the embedded model, the command reference. Tests hold both current.
committed: $(STAMP)
	$(BIN)/fpga-squeeze export fpga_squeeze/zoo/squeezenet_digits.pt --calibration fpga_squeeze/zoo/digits/calibration -o hls_out/squeezenet_digits \
	  --target-fps 20000
	$(BIN)/python docs/_hooks/commands.py

docs: $(STAMP)
	$(BIN)/python docs/_hooks/commands.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# By name, so that what is exported into the folder of the project is not held to the project's style.
LINTED = fpga_squeeze tests benchmarks sim docs templates

lint: $(STAMP)
	$(BIN)/ruff check $(LINTED)
	$(BIN)/mypy

# Icarus comes from the distribution: installed when this is root on Debian or Ubuntu; without it its tests skip and say so.
icarus:
	@command -v iverilog >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { apt-get update -qq && apt-get install -y -qq iverilog ccache; } >/dev/null 2>&1; } || \
	  echo "Icarus Verilog is not installed; its tests will be skipped (sudo apt-get install iverilog ccache)"

# So does the browser that the report page is tested in.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1; } || \
	  echo "Chromium is not installed; the report page's browser tests will be skipped (sudo apt-get install chromium)"

# The Vivado and Vitis HLS scripts of an export are run by tclsh against stand-ins; installed like Icarus, and its tests skip without it.
tcl:
	@command -v tclsh >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { apt-get update -qq && apt-get install -y -qq tcl; } >/dev/null 2>&1; } || \
	  echo "tclsh is not installed; its tests will be skipped (sudo apt-get install tcl)"

test: lint icarus chromium tcl
	$(TEST_ENV) $(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow"

test-all: lint icarus chromium tcl
	$(TEST_ENV) $(BIN)/pytest -n $(WORKERS) --dist loadfile

# Needs FPGA_SQUEEZE_DATA and about half an hour.
accuracy: $(STAMP)
	$(BIN)/python benchmarks/accuracy_ledger.py

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find hls_out -mindepth 1 -maxdepth 1 ! -name squeezenet_digits -exec rm -rf {} + 2>/dev/null || true
