# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := OMP_NUM_THREADS=1

.PHONY: browser demo test test-all check docs examples wheel clean

demo: $(VENV)/.core
	$(BIN)/vallum evaluate plain=builtin:signs_resnet hardened=builtin:signs_resnet_robust \
	  --data "builtin:signs?split=test" -n 500 --out runs/demo/nets \
	  --threat gaussian:std=0.1 --threat gaussian:std=0.2 --threat motion_blur:3 --threat jpeg_compression:3 \
	  --threat fog:1 --threat fog:3 --threat fog:5 \
	  --threat pgd:eps=2/255,steps=10 --threat pgd:eps=4/255,steps=10 --threat pgd:eps=8/255,steps=10
	$(BIN)/vallum evaluate denoised=builtin:signs_denoised --data "builtin:signs?split=test" -n 16 \
	  --out runs/demo/denoised --threat pgd:eps=4/255,steps=10
	$(BIN)/vallum certify builtin:signs_denoised --data "builtin:signs?split=test" -n 16 --sigma 0.15 --draws 200 \
	  --out runs/demo/denoised
	$(BIN)/vallum report runs/demo/nets runs/demo/denoised --out runs/demo/report.html

test: $(VENV)/.dev
	$(RUN) $(BIN)/pytest -m "not slow" -n 2

test-all: $(VENV)/.dev
	$(RUN) $(BIN)/pytest -n 2

check: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# For the tests that open the report: the system's Chromium, or one that playwright fetches; without it they are skipped.
browser: $(VENV)/.dev
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  $(BIN)/playwright install --only-shell chromium || echo "no browser: the tests that open the report are skipped"

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

examples: $(VENV)/.dev
	$(RUN) $(BIN)/python examples/run_all.py

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vallum needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) build dist runs
