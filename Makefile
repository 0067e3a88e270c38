# Every target makes the virtual environment that it needs.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	command -v $$name >/dev/null && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$name && break; done)
RUN := .venv
DEV := .venv-dev

.PHONY: help run demo test check memory clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

run: $(RUN)/ready ## run the server at http://127.0.0.1:3000 (make run ARGS='--port 4000')
	$(RUN)/bin/mini-s3 serve $(ARGS)

demo: $(RUN)/ready ## upload, re-upload, edit and download 1 GiB, and show what it cost
	$(RUN)/bin/python -m bench.demo $(ARGS)

test: $(DEV)/ready ## the tests, on a real MongoDB and a real Redis
	$(DEV)/bin/python -m pytest $(ARGS)

check: $(DEV)/ready ## lint, format, types, import contracts
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

memory: $(RUN)/ready ## measure the server's memory under large and many uploads (needs 12 GiB of disk)
	$(RUN)/bin/python -m bench.memory $(ARGS)

clean: ## remove the virtual environments and caches, never data
	rm -rf $(RUN) $(DEV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(RUN)/ready: EXTRAS := embedded
$(DEV)/ready: EXTRAS := embedded,dev
%/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Mini-S3 needs Python 3.11 or newer; name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(@D) || { echo "The venv module is incomplete; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(@D) ..."
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@
