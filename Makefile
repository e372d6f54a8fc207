# Everything a fresh machine with Python 3.11 and make needs; `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# python3.11 where it goes by that name, else whatever python3 is; the first line of the environment checks it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := kit/rochdale_kit client/rochdale/client local/rochdale_local simulators/stripe/stripe_simulator \
	$(wildcard services/*/[a-z]*_[a-z]*) $(filter-out %.toml %.md,$(foreach s,$(notdir $(wildcard services/*)),$(wildcard services/$(s)/$(s)))) deploy examples bench tests
MEMBERS := kit proto/python $(wildcard services/*) client local simulators/stripe
# A machine behind a company's proxy trusts what its system trusts; uv by itself would not.
export UV_SYSTEM_CERTS := true
export PATH := $(CURDIR)/$(BIN):$(PATH)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is written last, so an interrupted installation is started again rather than believed.
$(VENV)/.installed: requirements.lock pyproject.toml $(wildcard */pyproject.toml) $(wildcard */*/pyproject.toml)
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Rochdale needs Python 3.11 or newer; set PYTHON=... to name one."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep -oE '^uv==[^ ]+' requirements.lock)"
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS))
	@touch $@

environment: $(VENV)/.installed ## make the environment in .venv

demo: $(VENV)/.installed ## watch real data being licensed, paid for, delivered and cut off
	$(BIN)/python examples/demo.py

year: $(VENV)/.installed ## live through a year of a cooperative's money: twelve dividend runs for 5,912 members
	$(BIN)/python examples/year.py

test: $(VENV)/.installed ## run every test, against real PostgreSQL and nats-server
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

# The same seed is the same history: what failed is played again by SEED=.
simulate: $(VENV)/.installed ## play SEEDS=1000 random histories of money, each step audited; SEED=123456 plays one again
	$(BIN)/python tests/money_simulation.py $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000) --first $(or $(FIRST),1))

bench: $(VENV)/.installed ## measure, as ratios to baselines of the same run; writes bench/results
	$(BIN)/python -m bench

check: $(VENV)/.installed ## everything that is checked without running: style, types, layers, contracts, manifests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy $(SOURCES)
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code proto --path proto/rochdale
	$(BIN)/buf breaking --against proto/released.binpb
	$(MAKE) --no-print-directory generate OUT=.generated
	diff -r -x __pycache__ -x '*.toml' -x '*.egg-info' proto/python .generated && rm -r .generated
	$(BIN)/python -m deploy.check

image-check: $(VENV)/.installed ## run the image's build steps for every service, without a container engine
	$(BIN)/python deploy/images/rehearse.py

# Generated elsewhere first when `check` compares.
OUT ?= proto/python
generate: $(VENV)/.installed ## generate proto/python from the contracts
	@mkdir -p $(OUT)
	find $(OUT) -name '*_pb2*' -delete
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=$(OUT) --grpc_python_out=$(OUT) \
		--mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) \
		$$(cd proto && find rochdale buf -name '*.proto' | sort)

release-contracts: $(VENV)/.installed ## declare today's contracts published: from now on they may only grow
	$(BIN)/buf build -o proto/released.binpb --exclude-source-info

lock: ## pin every dependency anew, with hashes and without addresses
	$(BIN)/uv lock --quiet
	$(BIN)/uv export --quiet --all-packages --all-groups --no-emit-workspace --no-header -o requirements.lock >/dev/null

.PHONY: help environment demo year test bench check image-check generate release-contracts lock
