# One entry for each habit; people and CI call the same ones.
PYTHON ?= python3
BIN := .venv/bin
BIN4 := .venv-transformers4/bin

.PHONY: demo test test-slow test-all check docs figures clean

demo: .venv/.ready          ## the main job: teacher to verified int8 artifact, with its report
	$(BIN)/compressor run recipes/quickstart.toml

test: .venv/.ready          ## the tests, minutes
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/.ready     ## the tests that take longer
	$(BIN)/python -m pytest -m slow

test-all: test .venv-transformers4/.ready    ## the tests on transformers 5 and on transformers 4.57
	$(BIN4)/python -m pytest -m "not slow"

check: .venv/.ready         ## lint, types, and whether the generated pages are up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m compressor.reference --check
	$(BIN)/python -m benchmarks.figures --check

docs: .venv/.ready          ## write the generated pages
	$(BIN)/python -m compressor.reference
	$(BIN)/python -m benchmarks.figures

figures: .venv/.ready       ## measure the README's model again (needs its data; half an hour on two cores)
	$(BIN)/compressor run recipes/minilm-l3-d256-int8.toml
	mkdir -p docs/figures
	cp runs/minilm-l3-d256-int8/results.json docs/figures/minilm-l3-d256-int8.json
	$(BIN)/python -m benchmarks.figures

clean:                      ## remove what the commands above made
	rm -rf .venv .venv-transformers4 runs

# To take the CPU build of torch where the default index has another: PIP_EXTRA_INDEX_URL, as pip reads it.
.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv-transformers4/.ready: requirements-transformers4.lock pyproject.toml
	$(PYTHON) -m venv .venv-transformers4
	$(BIN4)/pip install --quiet --disable-pip-version-check -r requirements-transformers4.lock
	$(BIN4)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
