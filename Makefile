# Everything through one virtual environment, made on first use from constraints.txt.
# Needs make and Python 3.11 or later, nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Arguments for the targets below, e.g. `make run RUN_ARGS="--steps 20000"`.
RUN_ARGS ?=
TEST_ARGS ?= -q -n auto --maxprocesses 4
OLDEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 600
SOAK_SECONDS ?= 3600
SOAK_BATCH ?= 4096
KILLS ?= 50
SITE ?= build/docs
LAB_ARGS ?=
QUESTIONS ?= which-class restrict-or-migrate premature radiant slab-and-stacks memmap unplug traditional per-class-cost

.PHONY: help setup hooks run test test-oldest audit fuzz faults soak lint format types docs bench board kernels seed-observation questions kernel-lab lock clean

help:
	@echo "make run    train PPO on the suite train, export it, measure it on test beside tuned rules (under 4 minutes on 2 cores)"
	@echo "make test   the whole test suite"
	@echo "make fuzz   nearly right files for every parser, FUZZ_SECONDS=600 of them"
	@echo "make test-oldest  the wheel, in an environment of its own with constraints-oldest.txt, and tests of it"
	@echo "make audit  known vulnerabilities of the packages of constraints.txt, where their data can be had"
	@echo "make faults every command killed KILLS=50 times    make soak  SOAK_SECONDS=3600 of random machines"
	@echo "make setup  only the environment in $(VENV)"
	@echo "make board  TensorBoard on runs/"
	@echo "make bench  speed: ratios against references"
	@echo "make seed-observation  docs/seed-observation.md anew: what decides between online and online_movable (minutes)"
	@echo "make questions  docs/questions/ anew, or some of it with QUESTIONS=\"memmap unplug\" (minutes)"
	@echo "make kernels  docs/kernels.md anew: every rule on four releases of Linux (minutes)"
	@echo "make kernel-lab  record a real kernel under QEMU (Debian, root) and judge the model on it"
	@echo "make docs   the documentation as a site, build/docs/index.html"
	@echo "make lint   ruff    make types  mypy    make format  layout and what else ruff can mend"
	@echo "make hooks  lint and types before every commit"
	@echo "make lock   constraints.txt anew    make clean  remove what make made"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tiergym needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

hooks: setup
	$(BIN)/pre-commit install

run: setup
	$(BIN)/tiergym run $(RUN_ARGS)

test: setup
	$(BIN)/python -m pytest $(TEST_ARGS)

fuzz: setup
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -q -s tests/test_fuzz.py

test-oldest: setup
	PYTHON=$(PYTHON) BUILD_PYTHON=$(abspath $(BIN))/python .ci/oldest $(OLDEST_ARGS)

audit: setup
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip_audit -r constraints.txt --no-deps --disable-pip

faults: setup
	$(BIN)/python -m tests.faults --kills $(KILLS)

soak: setup
	$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS) --batch $(SOAK_BATCH)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: setup
	$(BIN)/mypy

docs: setup
	$(BIN)/python -m sphinx -W --keep-going -q -b html -c docs . $(SITE)

bench: setup
	$(BIN)/tiergym bench $(BENCH_ARGS)

board: setup
	$(BIN)/tensorboard --logdir runs

seed-observation: setup
	out=$$(mktemp -d) && $(BIN)/tiergym run seed-observation --out $$out/seed && \
	  $(BIN)/python -m tiergym.lab.markdown --causes --into docs/seed-observation.md $$out/seed/results.json && \
	  cp $$out/seed/variants.png docs/seed-observation.png

questions: setup
	out=$$(mktemp -d) && for name in $(QUESTIONS); do \
	  $(BIN)/tiergym run $$name --out $$out/$$name && \
	  $(BIN)/python -m tiergym.lab.markdown --into docs/questions/$$name.md $$out/$$name/tables.md && \
	  cp $$out/$$name/picture.png docs/questions/$$name.png || exit 1; done

kernels: setup
	out=$$(mktemp -d) && $(BIN)/tiergym run kernels --out $$out/kernels && \
	  $(BIN)/python -m tiergym.lab.markdown --into docs/kernels.md $$out/kernels/results.json && \
	  cp $$out/kernels/variants.png docs/kernels.png

# Not part of CI: needs apt, root and minutes. See experiments/kernel-lab/README.md.
kernel-lab: setup
	$(BIN)/python -m tiergym.kernel_lab $(LAB_ARGS)

# A build's local tag (+cpu) names a machine's own wheel, so the lock leaves it out.
lock: setup
	{ sed -n '/^#/p' constraints.txt; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//' | LC_ALL=C sort -f; } > constraints.tmp
	mv constraints.tmp constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find tiergym tests agents envs experiments -name __pycache__ -type d -prune -exec rm -rf {} +
