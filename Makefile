# Two commands on a fresh machine: `make demo` and `make test`; both set up .venv themselves, with
# the versions of requirements.lock. See docs/install.md.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# CPU=1 takes torch's CPU build, from the package index that TORCH_INDEX names.
CPU ?=
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCKS := requirements.lock $(if $(CPU),,requirements-cuda.lock)
LOCKED = $(shell sed -n 's/^\($(1)==[^ ;]*\).*/\1/p' requirements.lock)

# Installed is what has a stamp for this folder and for the contents of these files. A folder whose
# Python does not run loses its stamp here, and is made anew below.
HERE := $(VENV)/installed-$(shell pwd | cksum | tr -d ' ')
STAMP := $(HERE)-$(shell { cat pyproject.toml requirements.lock requirements-cuda.lock; echo $(CPU); } | cksum | tr -d ' ')
$(shell [ ! -d $(VENV) ] || $(BIN)/python -c '' 2>/dev/null || rm -f $(VENV)/installed*)

.PHONY: help install demo test test-deployment test-locked test-latest test-oldest lint docs release bench faults compare lock clean

install: $(STAMP)  ## set up .venv with the versions of the lock

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { printf "%-36s  %s\n", $$1, $$2 }' Makefile

# An older environment is brought up to date in place; one without a stamp for this folder was left
# half-made, or was moved, and its programs name another Python.
$(STAMP):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@[ -f $(VENV)/pyvenv.cfg ] || [ -z "$$(ls -A $(VENV) 2>/dev/null)" ] || { echo "$(VENV) is not a virtual environment: remove it, or name another folder by VENV=" >&2; exit 1; }
	ls $(HERE)-* >/dev/null 2>&1 || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	rm -f $(VENV)/installed*
	$(if $(CPU),$(PIP) --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(call LOCKED,torch) $(call LOCKED,torchvision))
	$(PIP) --require-hashes --no-deps $(LOCKS:%=-r %)
	$(PIP) --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

demo: $(STAMP)  ## train pFedMoAP on digits: zero-shot, gate alone, full method
	$(BIN)/python scripts/demo.py --resume

test: $(STAMP)  ## the whole suite, offline, on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-latest test-oldest test-locked: test-%: $(STAMP)  ## the suite on other versions; writes docs/compatibility.md
	$(BIN)/python tools/compatibility.py $* --python $(PYTHON)

test-deployment: $(STAMP)  ## federations of real processes: faults, four sites, the tutorial as written
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m deployment

lint: $(STAMP)  ## formatting, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## the documentation as a site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

release: $(STAMP)  ## source archive and wheel, in dist/, as REPOSITORY=ADDRESS would publish them
	$(BIN)/python tools/release.py --repository $(or $(REPOSITORY),https://example.org/pfedmoap)

bench: $(STAMP)  ## all benchmarks; writes docs/performance.md. DEVICE=cuda, ARGS='--quick true'
	$(BIN)/python -m eval.cli bench all --device $(or $(DEVICE),cpu) $(if $(findstring quick,$(ARGS)),,--page docs/performance.md) $(ARGS)

faults: $(STAMP)  ## 500 random faults on a tiny run; writes the table of docs/reliability.md
	$(BIN)/python scripts/faults.py --page docs/reliability.md

compare: $(STAMP)  ## all methods on digits and rendered scenes, 3 seeds
	$(BIN)/python scripts/compare.py compare.yaml

lock: $(STAMP)  ## write the lock anew after a change of pyproject.toml; UPGRADE=1 takes newer versions
	$(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

clean:  ## delete environments, builds and runs
	rm -rf .venv .venv-* build dist site *.egg-info runs
