# Sett: build, check, test, run. 'make help' lists the targets.

SHELL   := /bin/bash
.DEFAULT_GOAL := build

DESTDIR ?=
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

TAGS    := libsqlite3
# libsqlite3 stands in everything that compiles the daemon: without it go-sqlite3 brings a second
# copy of SQLite into a process that has one through libdqlite already.
GOBUILD := go build -trimpath -tags $(TAGS)
STAMP   := -X sett/shared/version.Build=$(VERSION)

# System tests, the run script and the installation on this machine need root; nothing else does.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,HOME,GOFLAGS,GOPROXY env)

.PHONY: ui-check help deps build bin/lxd bin/lxd-shim bin/lxc run check fmt vet arch unit cross tidy test system install uninstall clean clean-run doc

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install what this machine lacks (apt), and root's subordinate ids
	@test/lib/deps.sh

# What the web interface is built from. Its build says why when it does nothing, and the daemon
# does without it then.
UI      := lxd/ui/dist/index.html.gz
UI_FROM := $(shell find lxd/ui/web \( -name node_modules -o -name out \) -prune -o -type f -print)

build: bin/lxd bin/lxd-shim bin/lxc ## Build bin/lxd, bin/lxd-shim and bin/lxc

# Go decides what is out of date, so these rules always run; a build with nothing to do is quick.
bin/lxd: $(UI)
	@$(GOBUILD) -ldflags '$(STAMP)' -o $@ ./lxd

$(UI): $(UI_FROM)
	@lxd/ui/web/build.sh

# Stays in memory beside every running container: no symbols, no debug data.
bin/lxd-shim:
	@$(GOBUILD) -ldflags '-s -w' -o $@ ./lxd/lxd-shim

bin/lxc:
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(STAMP)' -o $@ ./lxc

run: deps build ## Start a daemon of its own and a Debian 12 container in it
	@$(AS_ROOT) test/run/run.sh

clean-run: ## Remove all that 'make run' made, its cached image excepted
	@$(AS_ROOT) test/run/run.sh --remove

# --- check: no root, no network -------------------------------------------------------------

check: fmt vet arch unit cross tidy ui-check ## Formatting, vet, architecture, unit tests (no root, no network)

fmt:
	@out=$$(gofmt -l lxd lxc shared client test doc 2>/dev/null); \
	if [ -n "$$out" ]; then echo "Not formatted (run gofmt -w):"; echo "$$out"; exit 1; fi

vet:
	@go vet -tags "$(TAGS) system" ./...

arch:
	@go test -tags $(TAGS) ./lxd

# What tries every step of everything tries some of them in 'make check', and all in 'make test'.
SHORT := -short
test: SHORT :=

unit:
	@go test -race $(SHORT) -tags $(TAGS) $$(go list -tags $(TAGS) ./... | grep -v '^sett/lxd$$')

# The client side must stay free of cgo and of Linux.
cross:
	@for os in darwin windows; do \
		CGO_ENABLED=0 GOOS=$$os GOARCH=arm64 go build ./lxc/... ./client/... ./shared/... || exit 1; \
	done

# Tidying looks at the tests of our dependencies too. 'make deps' fetches what that takes; without
# it there is nothing to compare with, and check must do without a network.
tidy:
	@if ! out=$$(GOPROXY=off go mod tidy -diff 2>&1); then \
		if grep -q 'GOPROXY=off' <<<"$$out"; then echo "go.mod was not compared: run 'make deps' first"; \
		else echo "go.mod is not tidy (run go mod tidy):"; echo "$$out"; exit 1; fi; \
	fi

# Types and unit tests of the web interface, where its packages were fetched.
ui-check:
	@if [ -d lxd/ui/web/node_modules ]; then cd lxd/ui/web && npm run --silent check; \
	else echo "the web interface was not checked: run 'make deps' first (it takes node and npm)"; fi

# --- test: check, then the real thing as root -----------------------------------------------

test: check system ## check, then the system tests with real containers (root)

system: build
	@$(AS_ROOT) test/lib/system.sh -v

# --- installation ----------------------------------------------------------------------------

install: build ## Install below $(DESTDIR)$(PREFIX), with the systemd units
	@$(if $(DESTDIR),,$(AS_ROOT)) DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' test/lib/install.sh

uninstall: ## Remove what 'make install' brought; state stays
	@$(if $(DESTDIR),,$(AS_ROOT)) DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' test/lib/install.sh --remove

doc: ## Write the reference pages anew, from the declarations in the code
	@go run -tags $(TAGS) ./doc/gen

clean: ## Remove what was built (a running 'make run' is kept; see clean-run)
	rm -rf bin lxd/ui/web/out
	find lxd/ui/dist -mindepth 1 ! -name .keep -delete
