PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check format docs bench clean

# The virtual environment is rebuilt when the dependencies change.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.ready ## Label a clip on the embedded default, print J&F, leave pictures in demo/
	$(BIN)/python examples/demo.py --output demo

test: $(VENV)/.ready ## Run the test suite
	$(BIN)/python -m pytest --numprocesses 2

check: $(VENV)/.ready ## Formatting, lint, types, import layering, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate_cli.py --check

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.ready ## Build the documentation into site/
	$(BIN)/python -m pip install --quiet '.[docs]'
	$(BIN)/python docs/generate_cli.py
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.ready ## Measure speed and memory against the reference algorithm
	$(BIN)/python -m benchmarks.suite -o bench
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.extraction
	test -z "$(DAVIS)" || $(BIN)/python -m benchmarks.metrics --annotations $(DAVIS)/Annotations/480p

clean:
	rm -rf $(VENV) demo bench site dist build
