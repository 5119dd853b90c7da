# The commands of this project. `make run` and `make test` need nothing but Debian 12 and make.

VENV := .venv
PYTHON := $(VENV)/bin/python
# CI runs everything and skips nothing; on a laptop what needs many megabytes is asked for.
PYTEST_FLAGS := $(if $(filter true,$(CI)),--photographs,)
# Two at a time: most tests wait for something. A test that hangs is ended by tests/watchdog.py, and
# a run of twenty minutes stops with its report, or else is ended. JOBS=0: one by one.
JOBS ?= 2
RUN_TESTS = timeout --foreground --signal=INT --kill-after=60 1440 \
	$(PYTHON) -m pytest -n $(JOBS) --dist worksteal --session-timeout 1200
SERVERS := redis-server php-fpm squid openssl
PICTURES := mate-backgrounds plasma-workspace-wallpapers
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test soak check format bench slow crash fuzz farm farm-down clean servers pictures

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

$(VENV)/.made: pyproject.toml
	@sh tests/make-venv $(VENV)
	@touch $@

run: $(VENV)/.made ## Make sample pictures and serve them on http://127.0.0.1:8080
	@$(PYTHON) deploy/gallery.py var/gallery
	@$(PYTHON) deploy/run-gallery $(VENV)/bin/halftone var/gallery

test: $(VENV)/.made servers $(if $(filter true,$(CI)),pictures,) ## Run every test
	@$(MAKE) --no-print-directory check
	@$(RUN_TESTS) $(PYTEST_FLAGS)

soak: $(VENV)/.made servers ## Hold the promises of the cache through 2000 random histories (HALFTONE_RUNS)
	@HALFTONE_RUNS=$${HALFTONE_RUNS:-2000} $(PYTHON) -m pytest -n $(JOBS) tests/behaviour/test_promises.py

check: $(VENV)/.made ## Format, lint and type check
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

format: $(VENV)/.made ## Put the code into its form
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

bench: $(VENV)/.made servers ## Compare hits with lighttpd and nginx, renders with thumbor, libvips, sharp; time the cache (50 minutes)
	@sh tests/install-packages lighttpd nginx-light wrk gcc libc6-dev
	@sh tests/install-packages $(PICTURES) libnginx-mod-http-image-filter
	@command -v npm >/dev/null || sh tests/install-packages nodejs npm
	@sh tests/bench/make-peers var/peers
	@status=0; for one in hits renders cache fastcgi; do \
	$(PYTHON) -m tests.bench.$$one --out docs/bench || status=1; done; exit $$status

servers:
	@sh tests/install-packages $(SERVERS)

pictures:
	@sh tests/install-packages $(PICTURES)

slow: $(VENV)/.made ## Let slowhttptest loose on a node, four ways, and see whether it goes on serving
	@sh tests/install-packages slowhttptest
	@$(PYTHON) -m tests.slow

crash: $(VENV)/.made ## Kill a node a hundred times under load, and see whether anything was lost or wrong
	@$(PYTHON) -m tests.crash

fuzz: $(VENV)/.made ## Fuzz what reads foreign bytes, for a minute in all
	@$(PYTHON) -m pip install --quiet --editable '.[fuzz]'
	@$(PYTHON) -m tests.fuzz

farm: ## Bring up Squid, two nodes, Redis and php-fpm with docker-compose, and try them
	@sh deploy/try-farm

farm-down: ## Take the farm down, with its volumes
	@docker-compose down --volumes --remove-orphans

clean: ## Remove the environment, the gallery and its cache
	@rm -rf $(VENV) var .mypy_cache .ruff_cache .pytest_cache .hypothesis
