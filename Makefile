# Everything starts here: `make help`.

PREFIX ?= /usr/local
DESTDIR ?=

SHELL := /bin/sh
.DEFAULT_GOAL := build
.PHONY: help setup build addon bpf typescript lint test test-unit run-tests demo demo-keep \
	simulate demo-stop bench bench-farm bench-reload bench-moving bench-answers bench-handoff \
	bench-forward bench-replay bench-micro install uninstall clean

# The bin directory of your own Node.js, 22 or newer, with npm. The default is .node/ of this
# checkout.
NODE_DIR ?=
NODE_BIN := $(or $(NODE_DIR),$(shell scripts/find-node.sh))
PRIVATE_NODE := $(if $(filter $(CURDIR)/.node/bin,$(NODE_BIN)),.node/installed)
export PATH := $(NODE_BIN):$(PATH):/usr/local/sbin:/usr/sbin:/sbin
OWNER := scripts/as-owner.sh
AGAIN := $(MAKE) --no-print-directory

help:
	@echo 'make build             compile everything (needs no root if the tools are installed)'
	@echo 'sudo make demo         run a farm in network namespaces, show results, clean up'
	@echo 'sudo make demo-keep    the demo, left running to try things; sudo make demo-stop ends it'
	@echo 'make test-unit         run the tests that need neither root nor network namespaces'
	@echo 'sudo make test         run every test'
	@echo 'make simulate          simulate a million kept-alive connections'
	@echo 'sudo make bench        compare with HAProxy, nginx, bare XDP; write docs/benchmarks.md'
	@echo 'sudo make install      install below PREFIX=$(PREFIX); sudo make uninstall removes it'
	@echo 'sudo make setup        install the tools for build, demo and test (Debian), and Node.js'
	@echo
	@echo 'NODE_DIR=DIRECTORY     for all targets: bin directory of another Node.js, 22 or newer'
	@echo 'TESTS="PATH..."        for test and test-unit: run only the test files below these paths'

setup:
	@scripts/check-kernel.sh --warn
	@scripts/setup.sh test
	@$(if $(PRIVATE_NODE),$(AGAIN) $(PRIVATE_NODE))

build:
	@scripts/check-kernel.sh --warn
	@scripts/setup.sh build
	@$(AGAIN) typescript addon bpf

.node/installed: scripts/node.sums
	@scripts/node.sh

node_modules/.package-lock.json: package-lock.json | $(PRIVATE_NODE)
	@echo 'installing node modules'
	@$(OWNER) npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@$(OWNER) touch $@

typescript: node_modules/.package-lock.json
	@$(OWNER) node node_modules/typescript/bin/tsc -p tsconfig.json

addon: build/Release/baton.node
	@:

build/Release/baton.node: binding.gyp $(wildcard native/*.cc native/*.h) bpf/lib/ixp.h \
		node_modules/.package-lock.json $(PRIVATE_NODE)
	@echo 'compiling the native addon'
	@output=$$($(OWNER) node node_modules/node-gyp/bin/node-gyp.js configure build \
		$$(scripts/node-headers.sh) 2>&1) || { echo "$$output"; exit 1; }
	@$(OWNER) touch $@

bpf:
	@$(OWNER) $(AGAIN) -s -C bpf

lint: node_modules/.package-lock.json
	@node node_modules/@biomejs/biome/bin/biome check --log-level=warn --diagnostic-level=error .

test:
	@scripts/check-kernel.sh --adopt
	@scripts/setup.sh test
	@$(AGAIN) run-tests

# Runs as the owner of the checkout, because none of these tests needs root.
test-unit:
	@scripts/setup.sh build
	@$(AGAIN) typescript addon bpf lint
	@$(OWNER) node --enable-source-maps dist/scripts/run-tests.js --unit $(TESTS)

run-tests: typescript addon bpf lint
	@node --enable-source-maps dist/scripts/run-tests.js $(TESTS)

demo demo-keep:
	@scripts/check-kernel.sh
	@scripts/setup.sh demo
	@$(AGAIN) typescript addon bpf
	@PATH="$(PATH)" node --enable-source-maps dist/scripts/demo.js $@

demo-stop:
	@node dist/scripts/demo.js $@

bench: bench-farm

# ARGS=--no-write does not change docs/benchmarks.md and bench/results/latest.json.
bench-farm:
	@scripts/check-kernel.sh --adopt
	@scripts/setup.sh bench
	@$(AGAIN) typescript addon bpf
	@node --enable-source-maps dist/bench/farm/farm.bench.js $(ARGS)

# Measures how long reloads of a large config delay packets: docs/tuning.md, "Large farms".
bench-reload:
	@scripts/check-kernel.sh --adopt
	@scripts/setup.sh bench
	@$(AGAIN) typescript addon bpf
	@node --enable-source-maps dist/bench/reload/reload.bench.js

# Measures small packets through mode forward, next to a program that only swaps MAC addresses.
bench-forward:
	@scripts/check-kernel.sh --adopt
	@scripts/setup.sh bench
	@$(AGAIN) typescript addon bpf
	@node --enable-source-maps dist/bench/forward/forward.bench.js $(ARGS)

# Measures moves of kept-alive requests next to HAProxy, which routes the same requests by path.
bench-moving:
	@scripts/check-kernel.sh --adopt
	@scripts/setup.sh bench
	@$(AGAIN) typescript addon bpf
	@node --enable-source-maps dist/bench/moving/moving.bench.js $(ARGS)

# Measures handoffs by adoption and by replay, next to stock HAProxy.
bench-handoff:
	@scripts/check-kernel.sh --adopt
	@scripts/setup.sh bench
	@$(AGAIN) typescript addon bpf
	@node --enable-source-maps dist/bench/handoff/handoff.bench.js $(ARGS)

# Measures answers of the balancer itself next to those of HAProxy.
bench-answers:
	@scripts/check-kernel.sh --adopt
	@scripts/setup.sh bench
	@$(AGAIN) typescript addon bpf
	@node --enable-source-maps dist/bench/answers/answers.bench.js $(ARGS)

# Measures only the engine, a part of bench-farm, and what the access log costs it.
bench-replay: build
	@node --expose-gc dist/bench/replay/engine.bench.js
	@node --expose-gc dist/bench/replay/access-log.bench.js

# A million kept-alive connections, each world a function of its seed: half an hour and more.
simulate: build
	@SIM_CONNECTIONS=1000000 node --enable-source-maps dist/test/sim/kept-alive.test.js

bench-micro: build
	@for file in bench/micro/*.bench.ts; do node --expose-gc "dist/$${file%.ts}.js" || exit 1; done

LIBRARY := $(DESTDIR)$(PREFIX)/lib/baton

# The objects that the installed programs load; the others are for benchmarks.
INSTALLED_BPF := guard probe shim shim-replay shim-old xdp

# Installs only what running needs: no compiler, no tests.
install: build
	rm -rf $(LIBRARY)
	install -d $(LIBRARY)/bin $(LIBRARY)/dist $(LIBRARY)/build/Release $(LIBRARY)/build/bpf
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 bin/baton.js $(LIBRARY)/bin/baton.js
	install -m 644 package.json package-lock.json LICENSE $(LIBRARY)/
	cp -R dist/src $(LIBRARY)/dist/src
	$(if $(PRIVATE_NODE),install -D -m 755 .node/bin/node $(LIBRARY)/node/bin/node)
	$(if $(PRIVATE_NODE),install -m 644 .node/LICENSE $(LIBRARY)/node/LICENSE)
	install -m 644 build/Release/baton.node $(LIBRARY)/build/Release/
	install -m 644 $(INSTALLED_BPF:%=build/bpf/%.bpf.o) $(LIBRARY)/build/bpf/
	install -m 755 -d $(LIBRARY)/node_modules
	node scripts/production-modules.mjs | while read -r module; do \
		mkdir -p "$(LIBRARY)/$$(dirname "$$module")" && cp -R "$$module" "$(LIBRARY)/$$module"; \
	done
	chown -R 0:0 $(LIBRARY) 2>/dev/null || true
	printf '#!/bin/sh\nexec "%s" "%s" "$$@"\n' \
		"$(if $(PRIVATE_NODE),$(PREFIX)/lib/baton/node/bin/node,$$(command -v node))" \
		'$(PREFIX)/lib/baton/bin/baton.js' \
		> $(DESTDIR)$(PREFIX)/bin/baton
	chmod 755 $(DESTDIR)$(PREFIX)/bin/baton

uninstall:
	rm -rf $(LIBRARY) $(DESTDIR)$(PREFIX)/bin/baton

clean:
	rm -rf dist build
