# Two commands do everything: `make lab` and `make test`. Both set up `.venv` first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
# where torch comes from: a short name of its own indexes (cu126, cpu), a URL, or nothing for what fits the driver
TORCH_INDEX ?=

.PHONY: setup lab demo test test-busy fuzz check bench gpu gpu-bundle keyboard json data clean

setup: $(STAMP)

# another index than before: install again
ifneq ($(TORCH_INDEX),)
ifneq ($(TORCH_INDEX),$(shell cat $(VENV)/.torch-index 2>/dev/null))
.PHONY: $(STAMP)
endif
endif

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "tui-lab needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make setup PYTHON=python3.12"; exit 1; }
	@index=$$($(PYTHON) -m tui_lab.hardware.torch_index $(TORCH_INDEX)) || exit 1; \
	echo "Installing into $(VENV): some minutes the first time, 2 GB (torch for a GPU: more)"; \
	set -e; $(PYTHON) -m venv $(VENV); cp constraints.txt $(VENV)/constraints.txt; \
	if [ -n "$$index" ]; then \
	  echo "torch comes from $$index"; \
	  grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt; \
	  $(PIP) uninstall --quiet --yes torch; \
	  $(PIP) install --quiet --index-url "$$index" 'torch>=2.9,<3'; \
	else \
	  $(PIP) install --quiet -c $(VENV)/constraints.txt torch; \
	fi; \
	$(PIP) install --quiet -c $(VENV)/constraints.txt -e '.[dev]'; \
	echo "$(TORCH_INDEX)" > $(VENV)/.torch-index; touch $(STAMP)

lab: setup
	@$(BIN)/tui-lab

demo: setup
	@$(BIN)/tui-lab demo $(ARGS)

PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

test: setup
	$(PYTEST) $(ARGS)

# three times in a row beside two busy loops: a test that depends on an idle machine fails here
test-busy: setup
	@$(BIN)/python -c 'while True: pass' & one=$$!; $(BIN)/python -c 'while True: pass' & two=$$!; \
	  trap "kill $$one $$two" EXIT; \
	  for turn in 1 2 3; do echo "busy turn $$turn of 3"; $(PYTEST) $(ARGS) || exit 1; done

# searches for new failing examples; `make test` uses fixed ones. SEED and EVENTS choose the keys that are pressed
SEED ?= $(shell date +%s)
EVENTS ?= 10000
fuzz: setup
	TUI_LAB_HYPOTHESIS_PROFILE=fuzz $(PYTEST) -m hypothesis $(ARGS)
	$(BIN)/python -m tests.ui.fuzz --events $(EVENTS) --seed $(SEED)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.benchmarks $(ARGS)

# checks and measures the lab on a card: GPU_OUT/gpu.json and a table; exit code 2 without a card
GPU_SECONDS ?= 540
GPU_OUT ?= gpu-results
gpu: setup
	$(BIN)/python -m tests.gpu --seconds $(GPU_SECONDS) --out $(GPU_OUT) $(ARGS)

# a folder with all that `make gpu` needs on a machine without a network; says the line that runs it there
gpu-bundle: setup
	@$(BIN)/python -m tests.gpu.bundle $(ARGS)

# the page of all keys, from the registry of actions
keyboard: setup
	@$(BIN)/python -m tui_lab.ui.actions.keyboard_page > docs/keyboard.md

# the page and the JSON schema of what the commands print with -o json, from its records
json: setup
	@$(BIN)/python -m tui_lab.cli.json_schema > docs/json.schema.json
	@$(BIN)/python -m tui_lab.cli.json_schema page > docs/json.md

# the bundled data sets, the replay rows and the suite everyday, from their seeds
data: setup
	$(BIN)/python -m tui_lab.pocket.builder.write_data

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
