# Antiphon. `make help` lists what there is. Everything installs itself into .venv from constraints.txt.

PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
PEERS := .venv-peers
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUST := $(shell find simcore/src -name '*.rs' 2>/dev/null) simcore/Cargo.toml simcore/Cargo.lock
CARGO := cargo
MANIFEST := --manifest-path simcore/Cargo.toml
FUZZ := --manifest-path simcore/fuzz/Cargo.toml

.DEFAULT_GOAL := help
.PHONY: help run test test-pythons lint gen bench bench-eviction bench-overload bench-peers bench-sentences bench-simcore setup model clean
.PHONY: fit-decision eval-cache eval-online campaign-attack campaign-decision campaign-simcore fuzz-simcore
.PHONY: campaign-isolation campaign-stampede campaign-streams campaign-survival campaign-durability campaign-model
.PHONY: campaign-reembed campaign-store
.PHONY: test-faults-sabotage soak

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

run: setup model ## start the whole suite and show its main job; EXIT=1 drains and exits afterwards
	ANTIPHON_OFFLINE_PACE=$${ANTIPHON_OFFLINE_PACE:-0.02} $(BIN)/antiphon up --demo $(if $(EXIT),--exit)

test: setup model ## run all tests, by files on WORKERS=2 processes
	$(CARGO) test --quiet --locked $(MANIFEST)
	$(BIN)/python -m pytest -n $(or $(WORKERS),2) --dist loadfile --no-loadscope-reorder

test-pythons: setup ## install and try the client on every other Python of this machine, 3.11 or newer
	ANTIPHON_TEST_PYTHONS=1 $(BIN)/python -m pytest tests/packaging/test_packaging_pythons.py

lint: setup ## check style, types, protos, stubs, Rust
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy services simcore clients/python/antiphon_client protos tools tests
	$(BIN)/python -m mypy.stubtest simcore._native
	$(BIN)/buf lint protos
	$(BIN)/python protos/generate.py --check
	$(BIN)/python tools/documents.py --check
	$(BIN)/python tools/notice.py --check
	$(CARGO) fmt --check $(MANIFEST)
	$(CARGO) clippy --quiet --locked --all-targets $(MANIFEST) -- -D warnings
	$(CARGO) clippy --quiet --locked --features extension-module $(MANIFEST) -- -D warnings
	$(CARGO) fmt --check $(FUZZ)
	$(CARGO) clippy --quiet --locked --all-targets --no-default-features $(FUZZ) -- -D warnings

gen: setup ## regenerate the stubs from the protos, and the tables in the README
	$(BIN)/python protos/generate.py
	$(BIN)/python tools/documents.py --write
	$(BIN)/python tools/notice.py --write

bench: setup model ## measure the hot paths against a bare echo in the same run; JSON last
	$(BIN)/python -m tests.bench

bench-eviction: setup ## ask ten times as many questions as there is room for, beside plain LRU: hits, money; JSON last
	$(BIN)/python -m tests.bench.evicting $(ARGS)

bench-overload: setup ## three times what a model can take, for 30 s of real time: what is answered, and for whom; JSON last
	$(BIN)/python -m tests.bench.overload $(ARGS)

bench-peers: setup model $(PEERS)/.installed ## CPU per call and token beside LiteLLM's proxy, on the same upstream; JSON last
	$(BIN)/python -m tests.bench.peers --litellm $(PEERS)/bin/litellm $(ARGS)

bench-sentences: setup ## count the texts whose sentences are right, beside a buffer cut after each stop and space; JSON last
	$(BIN)/python -m tests.bench.sentences

# Texts are embedded by the project's own environment, once, when the part `text` finds no file of theirs in $(BENCH).
bench-simcore: setup model $(BENCH)/.installed ## measure exact search beside FAISS, numpy, usearch and hnswlib; JSON last
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	  $(BENCH)/bin/python -m tests.bench.simcore --embedding-python $(BIN)/python $(ARGS)

test-faults-sabotage: setup model ## for each fault row: remove its handling and see its test fail
	$(BIN)/python -m tests.faults.sabotage

fit-decision: setup model ## fit the cache's verifier on the sets in DATA=; FOLDS= a folder for one per fold
	$(PIP) install --quiet -c constraints.txt -c tools/constraints.txt --group fit
	$(BIN)/python -m tools.fit_decision $(DATA) --scratch $(or $(SCRATCH),.antiphon/fit-decision) --write \
	  $(if $(FOLDS),--folds-to $(FOLDS))

eval-cache: setup model ## serve the sets in DATA= over gRPC, figures and pictures into OUT=; FOLDS= SETS= PRESETS= choose
	$(PIP) install --quiet -c constraints.txt -c tools/constraints.txt --group fit --group eval
	$(if $(FOLDS),,$(BIN)/python -m tools.fit_decision $(DATA) --scratch $(or $(SCRATCH),.antiphon/fit-decision) \
	  --folds-to .antiphon/eval-cache/folds)
	$(BIN)/python -m tests.quality.eval_cache $(DATA) --scratch $(or $(SCRATCH),.antiphon/fit-decision) \
	  $(if $(filter none,$(FOLDS)),,--folds $(or $(FOLDS),.antiphon/eval-cache/folds)) \
	  --out $(or $(OUT),.antiphon/eval-cache) $(if $(SETS),--sets $(SETS)) $(if $(PRESETS),--presets $(PRESETS))

eval-online: setup model ## let the cache learn from cold on the streams in DATA=, judged by the verifiers in FOLDS=; SETS= chooses
	$(PIP) install --quiet -c constraints.txt -c tools/constraints.txt --group fit
	$(if $(FOLDS),,$(BIN)/python -m tools.fit_decision $(DATA) --scratch $(or $(SCRATCH),.antiphon/fit-decision) \
	  --folds-to .antiphon/eval-cache/folds)
	$(BIN)/python -m tests.quality.eval_online $(DATA) --scratch $(or $(SCRATCH),.antiphon/fit-decision) \
	  --folds $(or $(FOLDS),.antiphon/eval-cache/folds) $(if $(SETS),--sets $(SETS))

campaign-decision: setup ## compare both readings of the verifier on the pairs in DATA=
	DECISION_CAMPAIGN_DATA=$(DATA) $(BIN)/python -m pytest -s tests/unit/simcore/test_verifier.py

campaign-attack: setup model ## ask QUERIES=5000 near misses against what another caller stored, from SEED= on
	ATTACK_QUERIES=$(or $(QUERIES),5000) ATTACK_SEED=$(SEED) $(BIN)/python -m pytest -s tests/quality/attack

campaign-simcore: setup ## compare a million searches with brute force
	SIMCORE_CAMPAIGN_CASES=1000000 $(CARGO) test --quiet --locked $(MANIFEST) --test campaign -- --nocapture

fuzz-simcore: ## look for inputs that break simcore, SECONDS=60 for each target, from SEED= on; needs g++
	CARGO=$(CARGO) simcore/fuzz/run $(or $(SECONDS),60) $(SEED)

campaign-stampede: setup model ## ask 1,200 questions that mean the same at once, SEEDS=200 times, and end the one who answers
	STAMPEDE_SEEDS=$(or $(SEEDS),200) STAMPEDE_FIRST=$(SEED) \
	  $(BIN)/python -m pytest -s tests/integration/suite/test_stampedes.py

campaign-isolation: setup model ## let tenants cross each other OPERATIONS=200000 times, from SEED= on, and look for leaks
	ISOLATION_OPERATIONS=$(or $(OPERATIONS),200000) ISOLATION_SEED=$(SEED) \
	  $(BIN)/python -m pytest -s tests/integration/tenants/test_isolation.py

campaign-streams: setup ## ask STREAMS=100000 faulty streams from SEED= on, then cancel CANCELS=1000 in each phase; nothing may be left
	STREAMS=$(or $(STREAMS),100000) STREAMS_SEED=$(SEED) CANCELS=$(or $(CANCELS),1000) \
	  $(BIN)/python -m pytest -s tests/integration/attempts/test_streams_campaign.py tests/integration/attempts/test_cancels.py

campaign-survival: setup ## count who survives failing models, REQUESTS=20000, and 200 overloads in virtual time
	SURVIVAL_REQUESTS=$(or $(REQUESTS),20000) OVERLOADS=$(or $(OVERLOADS),200) \
	  $(BIN)/python -m pytest -s tests/unit/completion/test_completion_survival.py \
	  tests/unit/completion/resilience/test_overload.py

campaign-durability: setup model ## kill the cache and its store KILLS=300 times, from SEED= on, and look for what is lost or back
	DURABILITY_KILLS=$(or $(KILLS),300) DURABILITY_SEED=$(SEED) \
	  $(BIN)/python -m pytest -s tests/integration/cache/test_cache_durability.py

campaign-reembed: setup ## embed ENTRIES=50000 anew under load, killed twice, from SEED= on, and look for wrong hits; JSON last
	REEMBED_ENTRIES=$(or $(ENTRIES),50000) REEMBED_SEED=$(SEED) \
	  $(BIN)/python -m pytest -s tests/integration/cache/test_cache_reembed_campaign.py

campaign-store: setup model ## let the store stop, crawl, break off and vanish under load, SECONDS=30 each, from SEED= on; JSON last
	STORE_FAULT_SECONDS=$(or $(SECONDS),30) STORE_FAULT_SEED=$(SEED) \
	  $(BIN)/python -m pytest -s tests/integration/suite/test_store_faults.py

campaign-model: setup ## do OPERATIONS=200000 to two caches over one store and to a plain model, from SEED= on, and compare
	MODEL_OPERATIONS=$(or $(OPERATIONS),200000) MODEL_SEED=$(SEED) \
	  $(BIN)/python -m pytest -n 2 -rP tests/integration/cache/test_cache_model.py

soak: setup model ## mixed requests, REQUESTS=200000 from SEED= on, with a full cache: memory, files and tasks stay as they are
	SOAK_REQUESTS=$(or $(REQUESTS),200000) SOAK_SEED=$(SEED) \
	  $(BIN)/python -m pytest -s tests/integration/suite/test_soak.py

setup: $(VENV)/.installed ## install everything into .venv

model: setup ## get the default embedding model into the user's cache folder
	$(BIN)/antiphon model get

$(VENV)/.tools: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Antiphon needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.13")'
	@echo "installing the tools into $(VENV) …"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt pip
	$(PIP) install --quiet -c constraints.txt --group dev
	@touch $@

$(VENV)/.installed: $(VENV)/.tools clients/python/pyproject.toml $(RUST)
	@echo "building simcore and installing Antiphon, about a minute …"
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --quiet -c constraints.txt --no-build-isolation \
	  -e './clients/python[cli]' -e .
	@touch $@

# The peers stay out of the project's own environment. hnswlib has a source package only: it needs a C++ compiler.
$(BENCH)/.installed: tests/bench/simcore/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	grep -v '^hnswlib' $< | $(BENCH)/bin/python -m pip --disable-pip-version-check install --quiet -r /dev/stdin
	grep '^hnswlib' $< | $(BENCH)/bin/python -m pip --disable-pip-version-check install --quiet -r /dev/stdin \
	  >$(BENCH)/hnswlib.log 2>&1 || echo "hnswlib does not build here (see $(BENCH)/hnswlib.log); the bench goes on"
	@touch $@

# Dependencies of the proxy's own: it pins what this project does not want.
$(PEERS)/.installed: tests/bench/peers/constraints.txt
	@echo "installing LiteLLM into $(PEERS) …"
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet -c $< 'litellm[proxy]'
	@touch $@

clean: ## remove what was built and installed; state folders stay
	rm -rf $(VENV) $(BENCH) $(PEERS) simcore/target simcore/*.so .mypy_cache .ruff_cache .pytest_cache
	rm -rf simcore/fuzz/target simcore/fuzz/corpus simcore/fuzz/artifacts
