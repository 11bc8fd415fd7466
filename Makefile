# `make demo` and `make test` are all the set-up there is: both make a virtual environment and install into it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test docs lint format clean

demo: $(STAMP)
	$(BIN)/linegraph rank --dataset digits --epochs 5 --train-fully --out runs/digits

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q

docs: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html
	@echo "the site is in docs/_build/html/index.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "linegraph needs Python 3.11 or newer; name one with make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "this Python has no venv; install it (Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@# Without what they require: torchvision, which BackPACK names and curvlinops needs nothing of, has no CPU build.
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps \
	  curvlinops-for-pytorch backpack-for-pytorch einconv einops linear-operator
	touch $@

clean:
	rm -rf $(VENV) runs build dist docs/_build docs/figures docs/tutorials .pytest_cache .mypy_cache .ruff_cache .hypothesis
