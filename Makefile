# Everything that is done in this folder. `make` alone lists it.
#
# The targets make the virtual environments that they need, and make them anew when pyproject.toml changes:
#   .venv      what it takes to run the server      .venv-dev  that, and what it takes to test it
#   .venv-bench  that of .venv, and what it is compared with

PYTHON ?= python3
ARGS   ?=
JS_CLIENTS = tests/clients/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.NOTPARALLEL:
# Otherwise each of the hundreds of processes that tests start would compile the source anew.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help run demo memory collect micro nodes redundancy metadata listing network scale s3 negotiated bench test search sanitize check clean

# An environment knows the folder that it was made in; a copied one must not be used.
$(shell for venv in .venv .venv-dev .venv-bench; do \
	[ "$$(cat $$venv/.ready 2>/dev/null)" = "$(CURDIR)" ] || rm -f $$venv/.ready; done)

help:
	@echo 'make run      start the server at http://127.0.0.1:3000, data in ./mini-s3-data (Ctrl-C stops it)'
	@echo 'make demo     show it at work on 1 GiB of real binaries; needs 3.5 GiB of disk for a minute'
	@echo 'make test     run all tests'
	@echo 'make search   let the long random searches among the tests try twenty times as much; an hour'
	@echo 'make check    lint, format, types, import contracts'
	@echo 'make sanitize test the C extension with address and undefined behaviour sanitizers'
	@echo 'make memory   measure its peak memory: one upload of 10 GiB, then 50 of 100 MiB at once'
	@echo 'make collect  measure deleting and collecting, and what that costs uploads'
	@echo 'make micro    measure single stages: hashing, cutting, forms, lookups, commits; each beside the least it could take'
	@echo 'make nodes    measure what node servers and nodes in buckets cost, beside a directory; needs 10 GiB for a minute'
	@echo 'make redundancy  measure uploads, downloads and repair by redundancy; needs 10 GiB for 4 minutes'
	@echo 'make metadata measure the database of a store of a million chunks; needs 3 GiB for 4 minutes'
	@echo 'make listing  measure lists of a bucket of a million keys; needs 2.5 GiB for 2 minutes'
	@echo 'make network  measure what a node that the network cuts off, or slows, costs reads of others; a minute and a half'
	@echo 'make scale    measure it with one worker beside as many as there are cores; needs 10 GiB for 2 minutes'
	@echo 'make s3       compare its S3 API with that of SeaweedFS; needs 26 GiB for 5 minutes'
	@echo 'make negotiated  measure `mini-s3 put` of new, unchanged and changed files beside plain uploads; needs 11 GiB'
	@echo 'make bench    compare it with SeaweedFS, GridFS and a handler that stores nothing; needs 22 GiB for 6 minutes'
	@echo 'make clean    remove environments and caches (not your data)'
	@echo
	@echo "Arguments go in ARGS:  make run ARGS='--port 4000'    make test ARGS='-k upload -x'"
	@echo 'Settings go in MINI_S3_… variables; .venv/bin/mini-s3 serve --help names them all.'
	@echo 'Another Python than python3: make run PYTHON=python3.12'

run: .venv/.ready
	@exec .venv/bin/mini-s3 serve $(ARGS)

demo: .venv/.ready
	@exec .venv/bin/python -m bench.demo $(ARGS)

memory: .venv/.ready
	@exec .venv/bin/python -m bench.memory $(ARGS)

collect: .venv/.ready
	@exec .venv/bin/python -m bench.collect $(ARGS)

micro: .venv-dev/.ready
	@exec .venv-dev/bin/python -m bench.micro $(ARGS)

nodes: .venv-bench/.ready
	@exec .venv-bench/bin/python -m bench.nodes $(ARGS)

redundancy: .venv/.ready
	@exec .venv/bin/python -m bench.redundancy $(ARGS)

metadata: .venv/.ready
	@exec .venv/bin/python -m bench.metadata $(ARGS)

listing: .venv/.ready
	@exec .venv/bin/python -m bench.listing $(ARGS)

network: .venv/.ready
	@exec .venv/bin/python -m bench.network $(ARGS)

scale: .venv/.ready
	@exec .venv/bin/python -m bench.scale $(ARGS)

s3: .venv-bench/.ready
	@exec .venv-bench/bin/python -m bench.s3 $(ARGS)

negotiated: .venv/.ready
	@exec .venv/bin/python -m bench.negotiated $(ARGS)

bench: .venv-bench/.ready
	@exec .venv-bench/bin/python -m bench.compare $(ARGS)

test: .venv-dev/.ready $(JS_CLIENTS)
	@exec .venv-dev/bin/python -m pytest -n 4 --dist worksteal $(ARGS)

search: .venv-dev/.ready
	@MINI_S3_TEST_EFFORT=20 exec .venv-dev/bin/python -m pytest -n 4 --timeout 7200 tests/interleavings tests/properties $(ARGS)

# Stock clients that are not of Python, at the versions of their lock file.
$(JS_CLIENTS): tests/clients/package-lock.json
	@command -v npm >/dev/null || { echo 'The tests need node and npm:  apt-get install nodejs npm' >&2; exit 1; }
	@npm ci --silent --no-audit --no-fund --ignore-scripts --prefix tests/clients
	@touch $@

sanitize: .venv-dev/.ready
	@set -e; python=.venv-dev/bin/python; built=.venv-dev/lanes-sanitized.so; \
	$(CC) -O1 -g -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all -fPIC -shared \
		-I"$$($$python -c 'import sysconfig; print(sysconfig.get_path("include"))')" app/streams/_lanes.c -o $$built; \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 MINI_S3_TEST_LANES=$$built \
		$$python -m pytest tests/streams/test_lanes.py $(ARGS)

check: .venv-dev/.ready
	@echo 'lint';             .venv-dev/bin/ruff check --quiet .
	@echo 'format';           .venv-dev/bin/ruff format --quiet --check .
	@echo 'types';            .venv-dev/bin/mypy --no-error-summary
	@echo 'import contracts'; .venv-dev/bin/lint-imports >.venv-dev/contracts.log || { cat .venv-dev/contracts.log; exit 1; }

clean:
	@rm -rf .venv .venv-dev .venv-bench tests/clients/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find app bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready: WHAT = .[embedded]
.venv-dev/.ready: WHAT = .[embedded,dev]
.venv-bench/.ready: WHAT = .[embedded,s3,bench]

.venv/.ready .venv-dev/.ready .venv-bench/.ready: pyproject.toml app/streams/_lanes.c app/streams/_lanes_rounds.h
	@set -e; \
	suits='import sys; sys.exit(sys.version_info < (3, 11))'; python=; bare=; \
	for name in '$(PYTHON)' python3.13 python3.12 python3.11; do \
		"$$name" -c "$$suits" 2>/dev/null || continue; \
		if "$$name" -c 'import venv, ensurepip' 2>/dev/null; then python=$$name; break; fi; \
		bare=$${bare:-$$name}; \
	done; \
	if [ -z "$$python" ] && [ -n "$$bare" ]; then \
		echo "$$bare can't make virtual environments: its modules venv and ensurepip are missing." >&2; \
		echo "On Debian and Ubuntu:  apt-get install python3-venv" >&2; \
		echo "(for a Python that is not the default one, such as python3.11:  apt-get install python3.11-venv)" >&2; \
		exit 1; \
	elif [ -z "$$python" ]; then \
		echo "Mini-S3 needs Python 3.11 or later, and there is none: $(PYTHON) is $$('$(PYTHON)' --version 2>&1 || true)" >&2; \
		echo "On Debian 12:     apt-get install python3 python3-venv" >&2; \
		echo "On Ubuntu 22.04:  apt-get install python3.11 python3.11-venv" >&2; \
		echo "If it is installed under another name:  make PYTHON=/path/to/python3.11 …" >&2; \
		exit 1; \
	fi; \
	if [ -e $@ ] && $(@D)/bin/python -c "$$suits" 2>/dev/null; then \
		echo "Bringing $(@D) up to date"; \
	else \
		echo "Making $(@D) with $$("$$python" --version); this takes a minute"; \
		"$$python" -m venv --clear $(@D); \
	fi; \
	rm -f $@; \
	$(@D)/bin/python -m pip install -qq --no-input --disable-pip-version-check -e '$(WHAT)'; \
	printf %s '$(CURDIR)' >$@
