# What people do here; `make help` lists it. Each target does its own set-up, and repeats nothing that is done.

PYTHON ?= python3
IMAGE ?= restate-pubsub:latest
VENV := .venv
BIN := $(VENV)/bin
NODE_MODULES := node_modules/.package-lock.json
CLIENTS := tests/clients/node_modules/.package-lock.json
NEXTJS := tests/proxies/nextjs/node_modules/.package-lock.json
REACT_CHAT := examples/react-chat/node_modules/.package-lock.json
REACT_PAGE := examples/react-chat/dist/index.html
DEMO_AGENT := $(if $(FRAMEWORK),.agents/$(FRAMEWORK)/.done)
JAVASCRIPT := clients/javascript/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help run demo demo-react screenshot test test-unit test-bounds test-environments test-fuzz test-agents test-image test-kubernetes test-faults test-proxies test-simulation soak debian-packages generate \
  test-side-by-side-1 test-side-by-side-2 test-side-by-side-3 client release release-image check format image audit lock bench bench-quick bench-sizing clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.done: requirements-dev.lock pyproject.toml
	@echo "setting up $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.13 …" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(NODE_MODULES): package.json package-lock.json
	@command -v npm >/dev/null || { echo "npm is needed for the local Restate server: install Node.js 22 or newer" >&2; exit 1; }
	@echo "getting the Restate server and the TypeScript packages …"
	@npm ci --silent
	@touch $@

# Only tests need these, so that what starts a service for people does not wait for them.
$(CLIENTS): tests/clients/package.json tests/clients/package-lock.json
	@echo "getting other people's readers and dev servers, for tests …"
	@npm ci --silent --prefix tests/clients
	@touch $@

$(NEXTJS): tests/proxies/nextjs/package.json tests/proxies/nextjs/package-lock.json
	@echo "getting Next.js, for tests …"
	@npm ci --silent --prefix tests/proxies/nextjs
	@touch $@

$(JAVASCRIPT): clients/javascript/package.json clients/javascript/package-lock.json
	@echo "getting what the package for pages is built and tested with …"
	@npm ci --silent --prefix clients/javascript
	@touch $@

$(REACT_CHAT): examples/react-chat/package.json examples/react-chat/package-lock.json
	@echo "getting what the page in React is made of …"
	@npm ci --silent --prefix examples/react-chat
	@touch $@

# The page takes the package for pages from its folder, as it is built there.
$(REACT_PAGE): $(REACT_CHAT) $(JAVASCRIPT) $(shell find clients/javascript/src -name '*.ts') \
  $(addprefix examples/react-chat/,index.html tsconfig.json vite.config.ts) $(wildcard examples/react-chat/src/*)
	@echo "building the page in React …"
	@node clients/javascript/build.mjs
	@npm run --silent --prefix examples/react-chat build

run: $(VENV)/.done $(NODE_MODULES) ## A local Restate and the service, connected; prints the URLs (ARGS=--public: for other machines, too)
	@exec $(BIN)/restate-pubsub dev $(ARGS)

demo: $(VENV)/.done $(NODE_MODULES) $(DEMO_AGENT) ## The example chat: Restate, service, agent and page; prints one URL (ARGS=--public as above; FRAMEWORK=pydantic-ai, openai-agents, langchain or adk: an agent of that framework)
	@exec $(BIN)/python examples/chat/demo.py $(DEMO_OPTIONS) $(ARGS)

agent_of = --agent examples/agents/$(subst -,_,$(1))_agent.py --agent-python .agents/$(1)/bin/python
# Each framework lives in an environment of its own, with the library as it is here.
ifdef FRAMEWORK
DEMO_OPTIONS = $(call agent_of,$(FRAMEWORK))
endif
# With `useChat` there is no agent of the page's own, so one framework is the default.
REACT_AGENT := $(or $(FRAMEWORK),pydantic-ai)
demo-react: $(VENV)/.done $(NODE_MODULES) .agents/$(REACT_AGENT)/.done $(REACT_PAGE) ## The same in React with useChat, on an agent of FRAMEWORK (pydantic-ai without one)
	@exec $(BIN)/python examples/chat/demo.py --page $(dir $(REACT_PAGE)) --form ai-sdk $(call agent_of,$(REACT_AGENT)) $(ARGS)

.agents/%/.done: examples/agents/%.lock pyproject.toml $(VENV)/.done
	@echo "setting up .agents/$* …"
	@test -x .agents/$*/bin/python || $(BIN)/uv venv -q --python $(BIN)/python .agents/$*
	@$(BIN)/uv pip install -q --python .agents/$*/bin/python --require-hashes -r $<
	@$(BIN)/uv pip install -q --python .agents/$*/bin/python --no-deps -e .
	@touch $@

test: $(VENV)/.done $(NODE_MODULES) $(CLIENTS) $(JAVASCRIPT) $(REACT_PAGE) ## All tests: unit, integration, browser, other people's readers, proxies, chart, short faults
	@tests/debian-packages missing $(PACKAGES)
	@$(MAKE) --no-print-directory -j3 test-side-by-side-1 test-side-by-side-2 test-side-by-side-3

# Three parts at once, of about the same length: the first computes, the others wait for programs most of the time.
# What two of them would build is built before.
FIRST_PART := $(addprefix tests/,unit simulation chart kubernetes release browser javascript)
SECOND_PART := $(addprefix tests/,clients proxies frameworks faults)
THIRD_PART := $(addprefix tests/,integration)
test-side-by-side-1:
	$(BIN)/pytest -o cache_dir=.pytest_cache/1 $(FIRST_PART)
test-side-by-side-2:
	$(BIN)/pytest -o cache_dir=.pytest_cache/2 $(SECOND_PART)
test-side-by-side-3:
	$(BIN)/pytest -o cache_dir=.pytest_cache/3 $(THIRD_PART)

PACKAGES ?= chromium faketime haproxy nginx prometheus

# The one in `make test` makes a few requests of each kind.
test-fuzz: $(VENV)/.done $(NODE_MODULES) ## Requests made of the service's own description, thousands of them: some minutes
	FUZZ=full $(BIN)/pytest --timeout 1200 -s tests/integration/test_fuzzed.py

soak: $(VENV)/.done $(NODE_MODULES) ## Kill and stop at random, simulated and for real, for SECONDS=600 (SEED=…)
	@tests/debian-packages require haproxy
	PYTHONPATH=tests $(BIN)/python -m soak --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

debian-packages: ## Install the programs of Debian that the tests drive (as root; PACKAGES="…" for others)
	@tests/debian-packages install $(PACKAGES)

# Those in `make test` are the same with short faults.
test-faults: $(VENV)/.done $(NODE_MODULES) ## What breaks, for as long as it does: about a quarter of an hour
	@tests/debian-packages require haproxy
	FAULTS=full $(BIN)/pytest --timeout 400 -s tests/faults

# Those in `make test` are fewer histories, and fewer places at which a call is stopped.
test-simulation: $(VENV)/.done ## Every handler, stopped anywhere, on one topic in memory: some ten minutes
	SIMULATION=full $(BIN)/pytest tests/simulation

# Those in `make test` are nginx, HAProxy, Envoy and Caddy.
test-proxies: $(VENV)/.done $(NODE_MODULES) $(CLIENTS) $(NEXTJS) ## Streams behind every program of docs/proxies.md that can be had: some minutes
	@tests/debian-packages require apache2 haproxy lighttpd nginx squid varnish
	PROXIES=all $(BIN)/pytest tests/proxies

# `make test` runs the same where the programs are built, and skips it otherwise. KUBEBUILDER_ASSETS: where they are.
test-kubernetes: $(VENV)/.done $(NODE_MODULES) ## The chart's life on a real control plane and a node, built from Go modules: half an hour the first time
	@tests/debian-packages missing containerd containernetworking-plugins nftables
	PYTHONPATH=tests $(BIN)/python -m kubernetes.programs
	$(BIN)/pytest tests/kubernetes --ignore tests/kubernetes/test_pods.py
	tests/kubernetes/on-a-node $(BIN)/pytest -s tests/kubernetes/test_pods.py

generate: $(VENV)/.done ## Write what is made from the settings: config/, and the chart's schema and README
	$(BIN)/python config/generate.py

client: $(JAVASCRIPT) ## Build clients/javascript, and the core of it that the service serves
	node clients/javascript/build.mjs

release: generate $(JAVASCRIPT) ## Make what users install, into dist/: wheel, sdist, npm package, chart, notes, checksums; the same bytes each time
	@$(BIN)/python config/release.py

release-image: ## The image for this machine's processor as an OCI archive, in dist/ beside what `make release` made
	@tests/image/archive

test-unit: $(VENV)/.done ## The tests that need no other program
	$(BIN)/pytest tests/unit

test-bounds: $(VENV)/.done $(NODE_MODULES) ## The library with the lowest and the newest versions that it allows
	BOUNDS=all $(BIN)/pytest tests/unit/test_import.py tests/integration/test_library.py

test-environments: $(VENV)/.done ## The library beside agent frameworks: nothing of theirs may move (asks the package index)
	$(BIN)/pytest tests/environments

test-agents: $(VENV)/.done $(NODE_MODULES) $(CLIENTS) $(REACT_CHAT) ## Agents of all frameworks, killed in the middle: one environment for each version
	AGENTS=all $(BIN)/pytest tests/frameworks

screenshot: $(VENV)/.done $(NODE_MODULES) ## Make the pictures of the pages anew: docs/chat.png, docs/console.png, examples/react-chat/chat.png
	@tests/debian-packages require chromium fonts-inter fonts-jetbrains-mono
	CHAT_SCREENSHOT=docs/chat.png CONSOLE_SCREENSHOT=docs/console.png $(BIN)/pytest tests/browser -k picture
	REACT_CHAT_SCREENSHOT=examples/react-chat/chat.png $(BIN)/pytest tests/frameworks/test_react_chat.py -k picture

check: $(VENV)/.done ## Lint, format, types, import contract, workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/zizmor --offline --quiet --pedantic .github

format: $(VENV)/.done ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

image: ## The container image, with docker, podman or buildah (IMAGE=name:tag PYTHON_IMAGE=base ENGINE=…)
	@tests/image/build $(IMAGE)

# Where the real base cannot be had, the tests make one of Debian's packages, and install buildah: see the script.
test-image: $(VENV)/.done $(NODE_MODULES) ## Build the image and run it, read-only, beside a real Restate
	@built=$$(STAND_IN_BASE=1 tests/image/build localhost/restate-pubsub:test) && TEST_IMAGE="$$built" $(BIN)/pytest -s tests/image

# checkov has dozens of dependencies that nothing else here needs, so it lives by itself.
audit: $(VENV)/.done ## Look for what is insecure in the chart and the Dockerfile, and for known holes in what is locked
	@test -x .audit/bin/checkov || { $(PYTHON) -m venv .audit && .audit/bin/pip install -q --disable-pip-version-check checkov==3.3.30; }
	@test -x .audit/known-holes/bin/pip-audit || { $(PYTHON) -m venv .audit/known-holes && .audit/known-holes/bin/pip install -q --disable-pip-version-check pip-audit==2.10.1; }
	$(BIN)/python config/known_holes.py .audit/known-holes/bin/pip-audit
	PYTHONPATH=tests $(BIN)/python tests/chart/audit.py .audit/bin/checkov

bench: $(VENV)/.done $(NODE_MODULES) ## Measure beside the reference and others (some 20 minutes); writes docs/benchmarks.md
	@tests/debian-packages require nginx libnginx-mod-nchan haproxy redis-server
	PYTHONPATH=tests $(BIN)/python -m benchmarks --out docs

bench-quick: $(VENV)/.done $(NODE_MODULES) ## The same in a few minutes, less to rely on; writes build/benchmarks
	@tests/debian-packages require nginx libnginx-mod-nchan haproxy redis-server
	PYTHONPATH=tests $(BIN)/python -m benchmarks --quick

bench-sizing: $(VENV)/.done $(NODE_MODULES) ## What `restate-pubsub size` counts with, and what it predicts beside 1, 2 and 3 replicas: ten minutes
	@tests/debian-packages require haproxy
	PYTHONPATH=tests $(BIN)/python -m benchmarks.sizing $(ARGS)

lock: $(VENV)/.done ## Pin anew what pyproject.toml asks for, and what each agent framework takes along
	$(BIN)/uv pip compile -q pyproject.toml --extra server --extra otel $(LOCK_OPTIONS) -o requirements.lock
	$(BIN)/uv pip compile -q pyproject.toml --extra server --extra otel --group dev -c requirements.lock $(LOCK_OPTIONS) -o requirements-dev.lock
	$(BIN)/uv pip compile -q --group build -c requirements-dev.lock $(LOCK_OPTIONS) -o requirements-build.lock
	for framework in $(basename $(wildcard examples/agents/*.txt tests/frameworks/oldest/*.txt)); do \
	  $(BIN)/uv pip compile -q $$framework.txt pyproject.toml $(LOCK_OPTIONS) -o $$framework.lock || exit; done
	npm install --package-lock-only --silent
	npm install --package-lock-only --silent --prefix tests/clients
	npm install --package-lock-only --silent --prefix tests/proxies/nextjs
	npm install --package-lock-only --silent --prefix clients/javascript
	npm install --package-lock-only --silent --prefix examples/react-chat

LOCK_OPTIONS := --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url

clean: ## Remove everything that was made here
	rm -rf $(VENV) .agents .audit node_modules tests/clients/node_modules tests/proxies/nextjs/node_modules clients/javascript/node_modules clients/javascript/dist examples/react-chat/node_modules examples/react-chat/dist .restate .hypothesis .mypy_cache .pytest_cache .ruff_cache dist
