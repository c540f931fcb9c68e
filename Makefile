# make help says what there is. Everything happens in .venv of this folder; nothing else is touched.
.DEFAULT_GOAL := help
.PHONY: help setup book pdf run plan test test-slurm soak bench lint reference lock clean

PARAMETERS := MODEL CORPUS PROMPT CALIBRATION SCORING TEXT TAP DTYPE DEVICE SEED PROFILE CORPUS_PATH
SETTINGS := $(PARAMETERS) ONLY CORES PYTHON VENV REPOSITORY

# A misspelt variable would be ignored by make and the wrong run computed, so it is an error.
from_user = $(filter command,$(firstword $(origin $(1))))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(call from_user,$(name)),$(name)))
UNKNOWN := $(filter-out $(SETTINGS),$(GIVEN))
$(if $(UNKNOWN),$(error unknown variable $(UNKNOWN): choose from $(SETTINGS)))

# What is given is text: make neither expands it, not even for a recipe's environment, nor lets a line end a command.
unexport $(SETTINGS)

# Only what is given on the command line counts: DEVICE or PROMPT may mean something else in the user's environment.
lower = $(shell printf %s '$(1)' | tr 'A-Z_' 'a-z-')
quote = '$(subst ','\'',$(1))'
text = $(call quote,$(value $(1)))
FLAGS = $(foreach name,$(PARAMETERS) ONLY CORES,$(if $(call from_user,$(name)),--$(call lower,$(name)) $(call text,$(name))))

define LINE_END


endef
$(foreach name,$(GIVEN),$(if $(findstring $(LINE_END),$(value $(name))),$(error $(name) has more than one line: give one)))
$(if $(filter VENV,$(GIVEN)),$(if $(shell printf %s $(call quote,$(value VENV)) | tr -d 'A-Za-z0-9._/-'),\
  $(error VENV is $(value VENV): give a folder of letters, digits and . _ - / without blanks)))

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

# Half of an installation was compiling what is never imported: Python does it for the rest, once, if it may keep it.
unexport PYTHONDONTWRITEBYTECODE

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name what; do \
	  printf '  make %-10s %s\n' "$$name" "$$what"; done
	@echo
	@echo '  make book, make run and make plan take ONLY=<notebook>, CORES=<number>, and the parameters of a run,'
	@echo '  $(PARAMETERS), for example'
	@echo '    make book MODEL=meta-llama/Llama-3.2-1B-Instruct CORPUS=crowd-envent PROFILE=full DEVICE=cuda'
	@echo '  REPOSITORY=https://github.com/owner/name adds Colab buttons; to keep it, write it into pyproject.toml.'
	@echo '  What they mean and their defaults: $(BIN)/emolib run --help. PYTHON=python3.12 chooses the interpreter.'

setup: $(READY) ## create .venv with everything in it

# Where the Colab buttons lead; without it, to the address in pyproject.toml, or there are none.
ADDRESS = $(if $(call from_user,REPOSITORY),EMOLIB_REPOSITORY=$(call text,REPOSITORY))

# There is something to read from the start. 1 says that a notebook failed: the others are shown. golden: are the
# numbers of the default run those committed?
book: $(READY) ## run what is stale and render the book
	@$(ADDRESS) $(BIN)/emolib run --show $(FLAGS); ran=$$?; [ $$ran -le 1 ] || exit $$ran; \
	$(ADDRESS) $(BIN)/emolib book && $(BIN)/emolib golden && exit $$ran

pdf: $(READY) ## print the book as it is now to one PDF (needs Chromium)
	@$(BIN)/python -m emolib.book.pdf

run: $(READY) ## run the experiments only
	@$(BIN)/emolib run $(FLAGS)

plan: $(READY) ## say what a run would take: passes, time, memory, disk
	@$(BIN)/emolib run --dry-run $(FLAGS)

# Files are shared out in their order, with the longest near its beginning, among three processes: many wait for programs.
test: $(READY) ## run every test
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-slurm: $(READY) ## run on a Slurm cluster of its own (Debian, as root)
	@$(BIN)/python tests/slurm

soak: $(READY) ## disturb runs at random for an hour (SOAK_MINUTES) and count what came of it
	@OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python tests/soak --minutes $${SOAK_MINUTES:-60}

bench: $(READY) ## measure the speed against the plain way, a quarter of an hour, into results/bench
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} TOKENIZERS_PARALLELISM=false $(BIN)/python -m benchmarks

lint: $(READY) ## check style, layers and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m mypy

reference: $(READY) ## compute the committed run again (hours) and put its chapters into the book
	@$(BIN)/emolib run --reference $(FLAGS)
	@$(ADDRESS) $(BIN)/emolib book

# Where torch comes as a build for one kind of machine (2.13.0+cpu), the lock names the version alone.
lock: ## resolve pyproject.toml anew, in a throwaway environment, into requirements.lock
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; python=$$($(FIND_PYTHON)); \
	"$$python" -m venv "$$folder/venv"; \
	"$$folder/venv/bin/python" -m pip install --quiet '.[all,test]'; \
	"$$folder/venv/bin/emolib" fetch smollm2-135m; \
	{ echo '# Written by make lock: every package of a clean install, exactly.'; \
	  "$$folder/venv/bin/python" -m pip freeze --all --exclude emolib --exclude pip | sed 's/+[a-z0-9.]*$$//'; } > "$$folder/lock"; \
	mv "$$folder/lock" requirements.lock; echo "requirements.lock: $$(grep -c == requirements.lock) packages"

clean: ## remove what was computed here (runs, their results, the rendered book), keep .venv and the reference
	rm -rf _build runs book/run-* .snakemake .pytest_cache .ruff_cache .hypothesis cache
	test ! -d results || find results -mindepth 1 -maxdepth 1 $(foreach name,$(COMMITTED),! -name '$(name)') -exec rm -rf {} +

COMMITTED := $(shell sed -n 's|^!results/\(.*\)/$$|\1|p' .gitignore)

FIND_PYTHON = for name in $(if $(call from_user,PYTHON),$(call text,PYTHON),python3.11 python3.12 python3.13 python3 python); do \
	  if "$$name" -c '$(SUPPORTED)' >/dev/null 2>&1; then echo "$$name"; exit 0; fi; done; \
	  printf '%s\n' 'no Python 3.11, 3.12 or 3.13 found'$(NAMED)': install one, or name it, as in: make book PYTHON=/path/to/python3.11' \
	  >&2; exit 1
NAMED = $(if $(call from_user,PYTHON),' under the name '$(call text,PYTHON))

$(READY): pyproject.toml requirements.lock
	@set -e; python=$$($(FIND_PYTHON)); \
	echo "Installing into $(VENV) with $$("$$python" --version): about 2.3 GB, some minutes"; \
	"$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -c requirements.lock -e '.[all,test]'
	$(BIN)/emolib fetch smollm2-135m
	@touch $(READY)
