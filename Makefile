# Everything sets up what it needs in $(VENV); nothing else has to be typed first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# onnxruntime-gpu where an NVIDIA driver answers, else onnxruntime: never both, they own the same module.
RUNTIME := $(if $(wildcard /dev/nvidiactl /proc/driver/nvidia/version),gpu,cpu)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
GENERATOR := $(if $(shell command -v h2load),h2load,grpc)
FREE_PORT := $(BIN)/python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'

.PHONY: demo serve test check lint bench bench-short train-mnist train-cifar proto image clean

demo: $(VENV)/serve-$(RUNTIME)  ## serve the shipped models on a free port and classify samples/
	@port=$$($(FREE_PORT)); \
	$(BIN)/python -m serve --port $$port --log-level warning & server=$$!; \
	trap 'kill $$server; wait $$server' EXIT; \
	classify() { $(BIN)/python -m serve.client --address 127.0.0.1:$$port --wait 60 "$$@"; }; \
	echo "mnist, samples/digits:" && classify --model mnist samples/digits && \
	echo && echo "cifar10, samples/objects:" && classify --model cifar10 samples/objects

serve: $(VENV)/serve-$(RUNTIME)  ## serve the shipped models on 127.0.0.1:50051
	$(BIN)/python -m serve

test: $(VENV)/test-$(RUNTIME)  ## the test suite
	$(BIN)/python -m pytest

lint: $(VENV)/test-$(RUNTIME)  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

check: lint test bench-short  ## what CI runs

bench: $(VENV)/serve-$(RUNTIME)  ## throughput and latency beside the ceiling, some minutes; h2load (nghttp2) where installed
	$(BIN)/python -m serve.bench --generator $(GENERATOR)
	$(BIN)/python -m serve.bench --generator $(GENERATOR) --batch 32 --concurrency 4 --connections 4
	$(BIN)/python -m serve.bench --generator $(GENERATOR) --concurrency 1
	$(BIN)/python -m serve.bench --generator $(GENERATOR) --connections 1

bench-short: $(VENV)/serve-$(RUNTIME)  ## the same code in seconds, so that it cannot rot
	$(BIN)/python -m serve.bench --short

train-mnist: $(VENV)/train-$(RUNTIME)  ## train the default MNIST recipe
	$(BIN)/python -m train.mnist

train-cifar: $(VENV)/train-$(RUNTIME)  ## train the default CIFAR-10 recipe
	$(BIN)/python -m train.cifar

proto: $(VENV)/test-$(RUNTIME)  ## write serve/pb anew
	$(BIN)/python proto/generate.py serve/pb

.PHONY: docs
docs: $(VENV)/docs-$(RUNTIME)  ## write what pages have from code, and build the site into build/docs
	$(BIN)/python -m docs.generate
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs

image:  ## build the container image
	docker build --target $(RUNTIME) --tag inkling:$(RUNTIME) .

clean:
	rm -rf $(VENV) build *.egg-info

# A stamp per set of extras, renewed when pyproject.toml changes.
$(VENV)/serve-$(RUNTIME): EXTRAS = $(RUNTIME)
$(VENV)/train-$(RUNTIME): EXTRAS = $(RUNTIME),train
$(VENV)/test-$(RUNTIME): EXTRAS = $(RUNTIME),train,test
$(VENV)/docs-$(RUNTIME): EXTRAS = $(RUNTIME),train,test,docs
$(VENV)/serve-$(RUNTIME) $(VENV)/train-$(RUNTIME) $(VENV)/test-$(RUNTIME) $(VENV)/docs-$(RUNTIME): pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "installing inkling[$(EXTRAS)] into $(VENV) ..."
	@$(PIP) --editable ".[$(EXTRAS)]"
	@touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wanted Python 3.11 or newer, got " + sys.version.split()[0] + "; name another with PYTHON=")'
	@$(PYTHON) -m venv $(VENV)
