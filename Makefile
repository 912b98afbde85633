# One entry for each habit; people and CI call the same ones. `make help` lists them.
#
# DATA holds what `make figures` and the like measure on: corpus/en.txt.gz (a sentence a line), stsb/en-{dev,test}.csv
# (sentence1,sentence2,score: the STS benchmark), and what the recipes name. Recipes look for it in ../shared/data beside
# the checkout; with a download of your own elsewhere, say where, as docs/measuring.md shows.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data
CURVE = --texts $(DATA)/corpus/en.txt.gz --sts $(DATA)/stsb/en-test.csv,$(DATA)/stsb/en-dev.csv
# The search chooses on the one, figures are reported on the other.
CHOOSE_ON = $(DATA)/stsb/en-dev.csv
REPORT_ON = $(DATA)/stsb/en-test.csv
BINP := .venv-packages/bin
BIN4 := .venv-transformers4/bin
BESIDE := -n auto --maxprocesses 4 --dist loadfile    # test files side by side, each in one process

.PHONY: help demo test test-slow test-all test-packages test-consumers check docs figures figures-students figures-answers \
  figures-peers figures-limits clean

help:                       ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-18s %s\n' "$$name" "$$text"; done

demo: .venv/.ready          ## the main job: teacher to verified int8 artifact, with its report
	$(BIN)/compressor run recipes/quickstart.toml

test: .venv/.ready          ## the tests, minutes
	$(BIN)/python -m pytest -m "not slow and not consumers" $(BESIDE)

test-slow: .venv/.ready     ## the tests that take longer
	$(BIN)/python -m pytest -m slow

test-consumers: .venv/.ready    ## other libraries and runtimes load real artifacts (npm and their own environments)
	$(BIN)/python -m pytest -m consumers

test-all: test .venv-transformers4/.ready    ## the tests on transformers 5 and on transformers 4.57
	$(BIN4)/python -m pytest -m "not slow and not consumers" $(BESIDE)

test-packages: .venv-packages/.ready    ## the tests of views that need optional packages: mlflow, onnxruntime-extensions, tritonclient, LoadGen
	$(BINP)/python -m pytest tests/exporters/test_pack.py tests/exporters/test_pack_servers.py \
	  tests/exporters/test_pack_packages.py tests/benchmarks/test_loadgen.py tests/exporters/test_verify_views.py

check: .venv/.ready         ## lint, types, floors, and whether the generated pages are up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_floors.py
	$(BIN)/python -m compressor.cli.reference --check
	$(BIN)/python -m benchmarks.pages.figures --check

docs: .venv/.ready          ## write the generated pages
	$(BIN)/python -m compressor.cli.reference
	$(BIN)/python -m benchmarks.pages.figures

figures: .venv/.ready       ## measure the README's model again (needs its data; half an hour on two cores)
	$(BIN)/compressor run recipes/minilm-l3-d256-int8.toml
	cp runs/minilm-l3-d256-int8/results.json docs/figures/minilm-l3-d256-int8.json
	$(BIN)/python -m benchmarks.pages.figures

figures-students: .venv/.ready    ## make and measure the students of docs/students.md again (two and three quarter hours)
	$(BIN)/compressor tradeoff recipes/minilm-layers.toml --layers 6,5,4,3,2,1,0 --precision both
	cp runs/minilm-layers-tradeoff/tradeoff.json docs/figures/minilm-layers.json
	for name in minilm-l1 minilm-light minilm-l3-matryoshka minilm-german; do \
	  $(BIN)/compressor run recipes/$$name.toml && cp runs/$$name/results.json docs/figures/$$name.json || exit 1; done
	$(BIN)/compressor curve sentence-transformers/all-MiniLM-L6-v2 --keep both $(CURVE) --out runs/minilm-vectors
	cp runs/minilm-vectors/curve.json docs/figures/minilm-vectors.json
	$(BIN)/compressor curve runs/minilm-l3-matryoshka/pca --truncate --dims 64,32 $(CURVE) \
	  --out runs/minilm-l3-matryoshka-vectors
	cp runs/minilm-l3-matryoshka-vectors/curve.json docs/figures/minilm-l3-matryoshka-vectors.json
	$(BIN)/python -m benchmarks.pages.figures

figures-answers: .venv/.ready     ## make and measure the reader and its ablation again (hours)
	$(BIN)/compressor run recipes/minilm-qa.toml
	cp runs/minilm-qa/results.json docs/figures/minilm-qa.json
	$(BIN)/compressor ablation recipes/minilm-qa.toml
	cp runs/minilm-qa/ablation.json docs/figures/minilm-qa-ablation.json
	$(BIN)/python -m benchmarks.pages.figures

figures-peers: figures            ## make the fastest forms of 6, 3, 2 and 1 layers, measure them beside the peers (two hours)
	$(BIN)/compressor tradeoff recipes/minilm-fastest.toml --layers 3,2,1 --precision both
	cp runs/minilm-fastest-tradeoff/tradeoff.json docs/figures/minilm-fastest.json
	$(BIN)/compressor export sentence-transformers/all-MiniLM-L6-v2 --out runs/exported/6-layers
	$(BIN)/compressor export runs/minilm-l3-d256-int8/distil --out runs/exported/3-layers
	for layers in 2 1; do $(BIN)/compressor export runs/minilm-fastest-tradeoff/$$layers-layers/distil \
	  --out runs/exported/$$layers-layers || exit 1; done
	for layers in 6 3 2 1; do $(BIN)/compressor optimise runs/exported/$$layers-layers --out runs/fastest/$$layers-layers \
	  --texts $(DATA)/corpus/en.txt.gz --speed-texts $(CHOOSE_ON) || exit 1; done
	$(BIN)/compressor bench runs/fastest/6-layers runs/fastest/3-layers runs/fastest/2-layers runs/fastest/1-layers \
	  --texts $(DATA)/corpus/en.txt.gz --sts $(REPORT_ON) --speed-texts $(REPORT_ON) --batch-sizes 8,16,32,64,128 \
	  --lengths 128 --peers all --out runs/peers
	cp runs/peers/peers.json docs/figures/peers.json
	cp runs/fastest/6-layers/search.json docs/figures/search-6-layers.json
	$(MAKE) figures-limits

figures-limits: .venv/.ready .venv-packages/.ready    ## measure what bounds them, growth, and LoadGen (a quarter of an hour)
	for layers in 6 3; do $(BIN)/compressor profile runs/fastest/$$layers-layers --speed-texts $(REPORT_ON) \
	  --out docs/figures/limit-$$layers-layers.json || exit 1; done
	$(BIN)/compressor growth runs/fastest/3-layers --texts $(DATA)/corpus/en.txt.gz --out docs/figures/growth.json
	$(BINP)/compressor loadgen runs/fastest/3-layers --texts $(DATA)/corpus/en.txt.gz --rounds 12 --out docs/figures/loadgen.json
	$(BIN)/python -m benchmarks.pages.figures

clean:                      ## remove what the commands above made
	rm -rf .venv .venv-transformers4 .venv-packages runs

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

.venv-packages/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-packages
	$(BINP)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BINP)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BINP)/pip install --quiet --disable-pip-version-check "mlflow>=3" "onnxruntime-extensions>=0.15" "tritonclient[grpc]" "mlcommons-loadgen>=6"
	touch $@
