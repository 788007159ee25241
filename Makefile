# fl-kit: `make demo` and `make test` do all their set-up, inside .venv. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NOTEBOOK := notebooks/00_first_federation.ipynb
# Tests that look at the clock have the machine to themselves; all others run two files at a time.
ALONE := tests/browser tests/bench
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

# Whatever runs keeps its settings and caches in .venv, not in the home directory.
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/home/matplotlib
export IPYTHONDIR := $(CURDIR)/$(VENV)/home/ipython
export JUPYTER_CONFIG_DIR := $(CURDIR)/$(VENV)/home/jupyter
export JUPYTER_DATA_DIR := $(CURDIR)/$(VENV)/home/jupyter-data
export JUPYTER_RUNTIME_DIR := $(CURDIR)/$(VENV)/home/jupyter-runtime
export JUPYTERLAB_SETTINGS_DIR := $(CURDIR)/$(VENV)/home/jupyterlab/settings
export JUPYTERLAB_WORKSPACES_DIR := $(CURDIR)/$(VENV)/home/jupyterlab/workspaces
# The kernel called python3 is .venv's own, whatever else is registered on this machine.
export JUPYTER_PREFER_ENV_PATH := 1
export JUPYTER_PATH :=
export PYTHONNOUSERSITE := 1
export MLFLOW_DISABLE_TELEMETRY := true
# Where the browser tests leave screenshots for people.
export FL_KIT_SCREENSHOTS ?= $(CURDIR)/build/screenshots

.PHONY: help demo lab test bench clean distclean chromium
.DELETE_ON_ERROR:

help:
	@echo 'make demo       train across four hospitals: build/demo/ gets the notebook, its pictures and a web page'
	@echo 'make lab        open the notebooks in JupyterLab'
	@echo 'make test       lint, format, types, clean notebooks, all tests'
	@echo 'make bench      time the workloads against the plain torch loop'
	@echo 'make clean      remove build/ and caches'
	@echo 'make distclean  remove .venv too'
	@echo 'PYTHON=python3.12 make demo chooses the interpreter (3.11 or newer) for a new .venv'

demo: $(VENV)/.installed
	$(BIN)/python -m sim.demo $(NOTEBOOK) build/demo

lab: $(VENV)/.installed
	$(BIN)/python -m jupyter lab --ServerApp.root_dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

test: $(VENV)/.installed-test chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify --keep-id $(wildcard notebooks/*.ipynb) </dev/null
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations=15 --numprocesses=2 --dist=loadfile $(patsubst %,--ignore=%,$(ALONE))
	$(BIN)/python -m pytest --durations=15 $(ALONE)

bench: $(VENV)/.installed
	$(BIN)/python -m bench

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# Each stamp is written last, so that a set-up which failed is tried again.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'fl-kit needs Python 3.11 or newer; $(PYTHON) is not: name another, as in PYTHON=python3.12 make demo' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@mkdir -p $(IPYTHONDIR)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) --editable '.[lab]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) --editable '.[test]'
	@touch $@

# The browser tests drive the system's Chromium: the one thing that is installed outside .venv, and only here.
chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  command -v apt-get >/dev/null && \
	  if [ "$$(id -u)" = 0 ]; then root=; else root='sudo -n'; fi && \
	  $$root apt-get update -qq && \
	  $$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core >/dev/null; \
	} || echo 'no Chromium and no way to install it with apt-get: the browser tests will be skipped' >&2
