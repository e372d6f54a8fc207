# Everything a fresh machine with Python 3.11 and make needs; `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
MEMBERS := kit proto/python $(wildcard services/*) client local simulators/stripe
export PATH := $(CURDIR)/$(BIN):$(PATH)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is written last, so an interrupted installation is started again rather than believed.
$(VENV)/.installed: requirements.lock pyproject.toml $(wildcard */pyproject.toml) $(wildcard */*/pyproject.toml)
	@command -v $(PYTHON) >/dev/null || { echo "Rochdale needs Python 3.11 or newer as '$(PYTHON)'; set PYTHON=... to name another."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep -oE '^uv==[^ ]+' requirements.lock)"
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS))
	@touch $@

environment: $(VENV)/.installed ## make the environment in .venv

lock: ## pin every dependency anew, with hashes and without addresses
	$(BIN)/uv lock --quiet
	$(BIN)/uv export --quiet --all-packages --all-groups --no-emit-workspace --no-header -o requirements.lock >/dev/null

.PHONY: help environment lock

generate: $(VENV)/.installed ## generate proto/python from the contracts
	find proto/python -name '*_pb2*' -delete
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto/python --grpc_python_out=proto/python \
		--mypy_out=quiet:proto/python --mypy_grpc_out=quiet:proto/python \
		$$(cd proto && find rochdale buf -name '*.proto' | sort)

.PHONY: generate
