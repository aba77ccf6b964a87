# Everything sets up what it needs in $(VENV); nothing else has to be typed first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# LOCKED=1 installs the exact versions in requirements/ci.txt, for the CPU, and checks their hashes. CI sets it.
LOCKED ?=
# onnxruntime-gpu where an NVIDIA driver answers, else onnxruntime: never both, they own the same module.
RUNTIME := $(if $(LOCKED),cpu,$(if $(wildcard /dev/nvidiactl /proc/driver/nvidia/version),gpu,cpu))
# A stamp file for each set of packages in $(VENV). LOCKED=1 installs one set for everything.
SERVE := $(VENV)/$(if $(LOCKED),locked,serve-$(RUNTIME))
WEB := $(VENV)/$(if $(LOCKED),locked,web-$(RUNTIME))
TRAIN := $(VENV)/$(if $(LOCKED),locked,train-$(RUNTIME))
TEST := $(VENV)/$(if $(LOCKED),locked,test-$(RUNTIME))
TEST_EXTRAS := train,test,docs,trace,web
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
GENERATOR := $(if $(shell command -v h2load),h2load,grpc)
FREE_PORT := $(BIN)/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
# --universal writes one file for every system and every Python from 3.11; fewest gives each package one version there.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--only-binary :all: --no-emit-index-url --annotation-style line --custom-compile-command "make lock" \
	$(if $(UPGRADE),--upgrade) --output-file
BUILD_REQUIRES = $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])'

TRITON := $(VENV)/tritonclient
# These tests keep no time, so files of them run two at a time, after the others.
PAIRED := tests/train tests/people tests/strangers tests/project tests/serve/images tests/serve/model_file tests/serve/score
ALONE := $(PAIRED:%=--ignore=%)
PAIRS := $(PAIRED) --numprocesses 2 --dist loadfile
run_tests = @$(BIN)/python -m pytest $(1) $(ALONE); first=$$?; $(BIN)/python -m pytest $(1) $(PAIRS) && exit $$first
# What `make fuzz` tries; INKLING_FUZZ_SEED in the environment repeats a run.
IMAGES ?= 100000
REQUESTS ?= 20000
MODELS ?= 20000
# How long `make soak` goes on.
MINUTES ?= 30

.PHONY: demo serve web test check lint docs fuzz soak bench bench-short train-mnist train-cifar proto image sbom triton lock clean

demo: $(SERVE)  ## serve the shipped models on a free port and classify samples/
	@port=$$($(FREE_PORT)); \
	$(BIN)/python -m serve --port $$port --log-level warning & server=$$!; \
	trap 'kill $$server; wait $$server' EXIT; \
	classify() { $(BIN)/python -m serve.client --address 127.0.0.1:$$port --wait 60 "$$@"; }; \
	echo "mnist, samples/digits:" && classify --model mnist samples/digits && \
	echo && echo "cifar10, samples/objects:" && classify --model cifar10 samples/objects

serve: $(SERVE)  ## serve the shipped models on 127.0.0.1:50051
	$(BIN)/python -m serve

web: $(WEB)  ## serve the shipped models and the page; it prints the address
	$(BIN)/python -m serve --web-port 8080

test: $(TEST)  ## the tests that take under 5 s each
	$(call run_tests,-m "not slow")

lint: $(TEST)  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(TEST)  ## write what pages have from code, and build the site into build/docs
	$(BIN)/python -m docs.generate
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs

check: lint docs bench-short  ## what CI runs: all of these, and every test
	$(call run_tests)

fuzz: $(TEST)  ## mutated images, requests and model files, for hours; IMAGES, REQUESTS and MODELS say how many
	INKLING_FUZZ_IMAGES=$(IMAGES) INKLING_FUZZ_REQUESTS=$(REQUESTS) INKLING_FUZZ_MODELS=$(MODELS) \
		INKLING_FUZZ_SEED=$${INKLING_FUZZ_SEED:-$$(date +%s)} $(BIN)/python -m pytest tests/fuzz

soak: $(TEST)  ## good, careless and hostile callers with kills and stops between, for MINUTES
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

bench: $(SERVE)  ## throughput and latency beside the ceiling, some minutes; h2load (nghttp2) where installed
	$(BIN)/python -m serve.bench --generator $(GENERATOR)
	$(BIN)/python -m serve.bench --generator $(GENERATOR) --batch 32 --concurrency 4 --connections 4
	$(BIN)/python -m serve.bench --generator $(GENERATOR) --concurrency 1
	$(BIN)/python -m serve.bench --generator $(GENERATOR) --connections 1

bench-short: $(SERVE)  ## the same code in seconds, so that it cannot rot
	$(BIN)/python -m serve.bench --short

train-mnist: $(TRAIN)  ## train the default MNIST recipe
	$(BIN)/python -m train.mnist

train-cifar: $(TRAIN)  ## train the default CIFAR-10 recipe
	$(BIN)/python -m train.cifar

proto: $(TEST)  ## write serve/pb anew
	$(BIN)/python proto/generate.py serve/pb

image:  ## build the container image
	docker build --target $(RUNTIME) --build-arg BASE=$$(cat requirements/base-image.txt) --build-arg COMMIT=$$(git rev-parse HEAD 2>/dev/null || echo unknown) --tag inkling:$(RUNTIME) .

sbom: $(VENV)/pyvenv.cfg  ## write what the image's Python packages are to build/sbom.json, in the form of CycloneDX
	@$(PIP) "cyclonedx-bom>=7,<8"
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml --mc-type application \
		--output-file build/sbom.json requirements/$(RUNTIME).txt

triton: $(TRITON)/installed  ## tritonclient for its tests, in an environment of its own: its stubs clash with ours

lock: $(VENV)/pyvenv.cfg  ## write requirements/ anew, keeping versions that still fit; UPGRADE=1 takes the newest
	@$(PIP) "uv>=0.9,<1"
	$(BUILD_REQUIRES) | $(COMPILE) requirements/ci.txt --extra cpu,$(TEST_EXTRAS),test-web pyproject.toml -
	$(BUILD_REQUIRES) | $(COMPILE) requirements/build.txt --constraint requirements/ci.txt -
	$(COMPILE) requirements/cpu.txt --constraint requirements/ci.txt --extra cpu,trace,web pyproject.toml
	$(COMPILE) requirements/gpu.txt --constraint requirements/ci.txt --extra gpu,trace,web pyproject.toml
	echo "tritonclient[grpc,http]>=2.73,<3" | $(COMPILE) requirements/triton.txt -

clean:
	rm -rf $(VENV) build *.egg-info

# Renewed when pyproject.toml changes.
$(VENV)/serve-$(RUNTIME): EXTRAS = $(RUNTIME)
$(VENV)/web-$(RUNTIME): EXTRAS = $(RUNTIME),web
$(VENV)/train-$(RUNTIME): EXTRAS = $(RUNTIME),train
$(VENV)/test-$(RUNTIME): EXTRAS = $(RUNTIME),$(TEST_EXTRAS)
$(VENV)/serve-$(RUNTIME) $(VENV)/web-$(RUNTIME) $(VENV)/train-$(RUNTIME) $(VENV)/test-$(RUNTIME): pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "installing inkling[$(EXTRAS)] into $(VENV) ..."
	@$(PIP) --editable ".[$(EXTRAS)]"
	@touch $@

$(VENV)/locked: pyproject.toml requirements/ci.txt | $(VENV)/pyvenv.cfg
	@echo "installing the versions in requirements/ci.txt into $(VENV) ..."
	@$(PIP) --require-hashes --only-binary :all: --requirement requirements/ci.txt || \
		{ echo "wanted the packages in requirements/ci.txt with its hashes; the index has other files, or did not answer" >&2; exit 1; }
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(TRITON)/installed: requirements/triton.txt
	@$(PYTHON) -m venv $(TRITON)
	@$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement requirements/triton.txt
	@touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wanted Python 3.11 or newer, got " + sys.version.split()[0] + "; name another with PYTHON=")'
	@$(PYTHON) -m venv $(VENV)
