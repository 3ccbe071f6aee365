# What can be done here. `make` alone lists it.
#
# Everything works from any folder (make -C /path/to/clone demo), and each of `make demo` and `make test` does on a fresh
# clone all that it needs: it makes a virtual environment in .venv and installs into it from the package registry. Nothing
# else is fetched, and nothing is written outside the clone but pip's cache.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
SEED ?= 1
COUNT ?= 100
TARGET ?= feed starter messages settings arguments service accela sftp broker
MINUTES ?= 10
SAMPLE ?= 100

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# What a shell may have set for another project must not leak into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTEST_ADDOPTS

# Stamps say that it stands, and in which folder: a virtual environment that was copied from elsewhere still points there.
STAMP := $(VENV)/product.stamp
PEERS := bench/peers/.venv
DEV_STAMP := $(VENV)/dev.stamp
MUTATION_STAMP := $(VENV)/mutation.stamp
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP) $(DEV_STAMP) $(MUTATION_STAMP): FORCE
endif

##@ Use
.PHONY: demo
demo: $(STAMP)  ## the whole thing on a simulated salon, on this machine; no account needed
	@$(BIN)/sync demo

##@ Develop
.PHONY: setup
setup: $(DEV_STAMP)  ## make .venv and install into it, again only after pyproject.toml has changed

.PHONY: test
test: $(DEV_STAMP)  ## all tests; TESTS="tests/rules -k plan" for some, WORKERS=0 for one process
	@$(BIN)/python -m pytest -n $(WORKERS) $(TESTS)

.PHONY: torture
torture: $(DEV_STAMP)  ## everything at once against the installed program; SEED=7 COUNT=1 for one schedule again, KEEP=FOLDER for its files
	@cd tests && ../$(BIN)/python -m torture --seed $(SEED) --count $(COUNT) $(if $(KEEP),--keep '$(abspath $(KEEP))')

.PHONY: fuzz
fuzz: $(DEV_STAMP)  ## hostile input without end; TARGET="feed starter" MINUTES=10 of processor time each, FUZZ="--seed 1" for the same again
	@cd tests && for target in $(TARGET); do ../$(BIN)/python -m fuzz $$target --minutes $(MINUTES) $(FUZZ); done

.PHONY: docs
docs: $(DEV_STAMP)  ## only the tests that hold the documentation against the code
	@$(BIN)/python -m pytest tests/docs

.PHONY: lint
lint: $(DEV_STAMP)  ## format, ruff, types, import contracts; changes nothing
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy src tests
	@$(BIN)/lint-imports

.PHONY: wheel
wheel: $(DEV_STAMP)  ## build the wheel, install it into a clean virtual environment, run it from there
	@.ci/try-wheel $(BIN)/python

.PHONY: lowest
lowest: $(DEV_STAMP)  ## the tests that touch dependencies, with the oldest versions that are allowed
	@.ci/try-lowest $(BIN)/python $(WORKERS)

.PHONY: audit
audit: $(DEV_STAMP)  ## known vulnerabilities of the dependencies; says so where they cannot be looked up
	@.ci/audit $(BIN)/python

.PHONY: check
check: lint wheel audit lowest test  ## all of it, as CI does, and last all tests, those of the documentation among them

.PHONY: bench
bench: $(STAMP)  ## the program beside bare loops; ARGS="--records 5000 --rounds 1" STARTER="--sales 5000 --rounds 1" for a short one
	@$(BIN)/python bench/compare.py $(ARGS)
	@$(BIN)/python bench/starter.py $(STARTER)

.PHONY: peers
peers: $(STAMP) $(PEERS)/peers.stamp  ## the program beside dlt and sqlite-utils: how fast, and what each makes of small worlds; ARGS, WORLDS
	@$(BIN)/python bench/peers/speed.py $(ARGS)
	@echo
	@$(BIN)/python bench/peers/small_worlds.py $(WORLDS)

.PHONY: mutation
mutation: $(MUTATION_STAMP)  ## small faults in the rules against their tests; MODULES="core/plan.py" SAMPLE=100 SEED=1 for some of them
	@$(BIN)/python tests/mutation/run.py --sample $(SAMPLE) --seed $(SEED) $(MODULES)

.PHONY: format
format: $(DEV_STAMP)  ## put the code into its form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: clean
clean:  ## remove the virtual environment and everything that tools have left
	@rm -rf $(VENV) $(PEERS) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .mutation
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:
	@echo "make TARGET, where TARGET is one of"
	@sed -n -e 's/^##@ \(.*\)/\n\1/p' -e 's/^\([a-z]*\):.*  ## \(.*\)/  \1\t\2/p' Makefile | expand -t 12

# The machinery

.PHONY: FORCE
FORCE:

$(STAMP): pyproject.toml
	@.ci/make-venv $(VENV)
	@echo "installing delta-mirror into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable .
	@pwd -P > $@

$(PEERS)/peers.stamp: bench/peers/requirements.txt
	@.ci/make-venv $(PEERS)
	@echo "installing what the program is compared with into $(PEERS)"
	@$(PEERS)/bin/python -m pip install --quiet --requirement $<
	@pwd -P > $@

$(DEV_STAMP): pyproject.toml
	@.ci/make-venv $(VENV)
	@echo "installing delta-mirror and its tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@pwd -P > $(STAMP)
	@pwd -P > $@

$(MUTATION_STAMP): $(DEV_STAMP)
	@echo "installing the mutation tester into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev,mutation]'
	@pwd -P > $@
