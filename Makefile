# One entry for each habit; people and CI call the same ones. `make help` lists them.
#
# DATA holds what `make figures` and the like measure on: corpus/en.txt.gz (a sentence a line), stsb/en-{dev,test}.csv
# (sentence1,sentence2,score: the STS benchmark), and what the recipes name. Recipes look for it in ../shared/data beside
# the checkout; with a download of your own elsewhere, say where, as docs/measuring.md shows.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data
MEASURE = $(BIN)/python -m benchmarks.pages.measure --data $(DATA)
BINP := .venv-packages/bin
BINS := .venv-serve/bin
BINR := .venv-ray/bin
BINO := .venv-openvino/bin
BIN4 := .venv-transformers4/bin
BESIDE := -n auto --maxprocesses 4 --dist loadfile    # test files side by side, each in one process

.PHONY: help demo test test-slow test-all test-packages test-serve test-ray test-openvino test-consumers check docs figures figures-students figures-answers \
  figures-peers figures-limits figures-retrieval figures-sizes figures-cuda clean

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

test-packages: .venv-packages/.ready    ## the tests of what needs optional packages: mlflow, onnxruntime-extensions, tritonclient, LoadGen, LanceDB
	$(BINP)/python -m pytest tests/exporters/test_pack.py tests/exporters/test_pack_servers.py \
	  tests/exporters/test_pack_packages.py tests/benchmarks/test_loadgen.py tests/exporters/test_verify_views.py \
	  tests/exporters/test_embed_lance.py

test-serve: .venv-serve/.ready    ## the tests of `compressor serve`, with the clients that people have: openai, LangChain, LlamaIndex, curl
	$(BINS)/python -m pytest tests/exporters/test_serve.py tests/exporters/test_serve_load.py \
	  tests/exporters/test_serve_malformed.py tests/exporters/test_serve_clients.py tests/exporters/test_serve_parts.py \
	  tests/exporters/test_dockerfile.py tests/benchmarks/test_over_http.py tests/benchmarks/test_served_peers.py

test-ray: .venv-ray/.ready      ## the tests of `embed --ray` and `teach --ray` on clusters of this machine, and of Spark (needs Java)
	$(BINR)/python -m pytest tests/exporters/test_embed_ray.py tests/models/test_teaching_ray.py tests/exporters/test_spark.py

test-openvino: .venv-openvino/.ready    ## the tests of OpenVINO's execution provider, with onnxruntime-openvino in onnxruntime's place
	$(BINO)/python -m pytest tests/exporters/test_openvino.py tests/exporters/test_asked.py tests/exporters/test_placed.py

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
	$(MEASURE) readme

figures-students: .venv/.ready    ## make and measure the students of docs/students.md again (two and three quarter hours)
	$(MEASURE) students

figures-answers: .venv/.ready     ## make and measure the reader and its ablation again (hours)
	$(MEASURE) answers

figures-peers: .venv-packages/.ready    ## make the fastest forms of 6, 3, 2 and 1 layers, measure them beside the peers (two and a half hours)
	$(BINP)/python -m benchmarks.pages.measure peers --data $(DATA)

figures-retrieval: .venv/.ready   ## make and measure the students to search with again (two hours)
	$(MEASURE) retrieval

figures-sizes: .venv/.ready       ## plan, make and measure a student for each of several sizes (three hours)
	$(MEASURE) sizes

figures-limits: .venv-packages/.ready   ## measure what bounds them, growth, and LoadGen (a quarter of an hour)
	$(BINP)/python -m benchmarks.pages.measure limits --data $(DATA)

figures-cuda: .venv/.ready        ## measure on an NVIDIA card beside PyTorch there (a quarter of an hour; docs/measuring.md)
	$(BIN)/python -m benchmarks.cuda figures --out runs/cuda
	cp runs/cuda/results.json docs/figures/cuda.json
	$(BIN)/python -m benchmarks.pages.figures

clean:                      ## remove what the commands above made
	rm -rf .venv .venv-transformers4 .venv-packages .venv-serve .venv-ray .venv-openvino runs

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
	$(BINP)/pip install --quiet --disable-pip-version-check "mlflow>=3" "onnxruntime-extensions>=0.15" "tritonclient[grpc]" "mlcommons-loadgen>=6" "lancedb>=0.25"
	touch $@

.venv-serve/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-serve
	$(BINS)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BINS)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[serve]"
	$(BINS)/pip install --quiet --disable-pip-version-check "openai>=2" "langchain-openai>=1" "llama-index-embeddings-openai>=0.5"
	touch $@

.venv-ray/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-ray
	$(BINR)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BINR)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[ray]"
	$(BINR)/pip install --quiet --disable-pip-version-check "pyspark>=4"
	touch $@

# Both packages unpack into one folder: one stands in the other's place, under the lock's other versions.
.venv-openvino/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-openvino
	sed 's/^onnxruntime==.*/onnxruntime-openvino>=1.24/' requirements.lock > .venv-openvino/requirements.txt
	$(BINO)/pip install --quiet --disable-pip-version-check -r .venv-openvino/requirements.txt
	$(BINO)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
