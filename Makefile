# Pharos. `make lab` shows the product, `make test` proves it; `make help` lists the rest.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO         ?= go
BIN        := bin/pharos
LAB        ?= anycast
VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Tools, by exact version. They are built on first use and cached by Go.
GOFUMPT     := $(GO) run mvdan.cc/gofumpt@v0.12.0
STATICCHECK := $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTESTSUM   := $(GO) run gotest.tools/gotestsum@v1.13.0
TESTS       := $(GOTESTSUM) --format pkgname-and-test-fails --
PROTOC_GEN_GO      := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GO_GRPC := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

# Debian packages: what the lab runs on, and what tests and checks need beyond it.
LAB_PACKAGES  := frr iproute2 nftables
BENCH_PACKAGES := haproxy nginx-light libnginx-mod-stream wrk nghttp2-client util-linux
TEST_PACKAGES := gcc libc6-dev protobuf-compiler libprotobuf-dev bird2

# What to try in a lab that is up.
NAMED := $(if $(filter anycast,$(LAB)),,--name $(LAB) )
define HINTS
printf '%s\n' '' 'The lab stays up. Try:' \
	'  $(BIN) lab exec $(NAMED)n1 -- pharos status' \
	'  $(BIN) lab exec $(NAMED)n1 -- pharos explain vip web' \
	'  $(BIN) lab exec $(NAMED)tor1 -- ip route show 198.51.100.1' \
	'  $(BIN) lab exec $(NAMED)n1 -- pharos drain n3' \
	'  $(BIN) drill run drain --node n2 --held 60 --lab $(LAB)' \
	'  $(BIN) lab shell $(NAMED)n2' \
	'  make lab-down'
endef

.PHONY: help build lab lab-down unit test bench check fmt generate drift deps-lab deps-test deps-bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the static binary, bin/pharos
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/pharos

lab: deps-lab build ## three nodes, a router, a failover drill; leaves the lab up
	@$(BIN) lab down --name $(LAB) >/dev/null
	@$(BIN) lab up --name $(LAB)
	@echo; echo "Killing n2 (SIGKILL) under 500 new connections a second:"; echo
	@result=0; $(BIN) drill run node-kill --node n2 --lab $(LAB) || result=$$?; $(HINTS); exit $$result

lab-down: build ## remove every trace of the lab
	@$(BIN) lab down --name $(LAB)

unit: ## tests that need neither root nor a network
	$(GO) test -short ./...

test: deps-lab deps-test build ## all tests: unit, integration with the race detector, the lab with the real FRR
	PHAROS_REQUIRE_ROOT=$(if $(CI),1,) $(TESTS) -race -timeout 15m $$($(GO) list ./... | grep -v /lab/endtoend)
	$(TESTS) -run 'Allocat|CostNothing' ./proxy/... # the race detector allocates itself
	PHAROS_REQUIRE_ROOT=$(if $(CI),1,) PHAROS_BIN=$(CURDIR)/$(BIN) $(TESTS) -timeout 20m ./lab/endtoend

bench: deps-lab deps-bench build ## CPU beside HAProxy and nginx; CHECK=1 fails where a figure falls short
	@$(BIN) lab bench $(if $(CHECK),--check,)

check: deps-test ## format, vet, lint and generated-code drift
	@out=$$($(GOFUMPT) -l cmd node bgp vip proxy cluster lab); [ -z "$$out" ] || { echo "not gofumpt-formatted (run \`make fmt\`):"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(STATICCHECK) ./...
	@$(MAKE) --no-print-directory drift

fmt: ## format the code
	$(GOFUMPT) -w cmd node bgp vip proxy cluster lab

generate: deps-test ## regenerate the code made from pharos.proto, and cluster/registry/CONFIGURATION.md
	@tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	GOBIN=$$tools $(GO) install $(PROTOC_GEN_GO); GOBIN=$$tools $(GO) install $(PROTOC_GEN_GO_GRPC); \
	PATH=$$tools:$$PATH protoc --go_out=. --go_opt=module=github.com/pharos-lb/pharos \
		--go-grpc_out=. --go-grpc_opt=module=github.com/pharos-lb/pharos cluster/api/pharosv1/pharos.proto
	$(GO) run ./lab/presubmit/reference cluster/registry cluster/registry/CONFIGURATION.md

drift: generate ## fail when what is generated, or go.mod, is not what its source says
	$(GO) mod tidy -diff
	@git diff --exit-code --stat -- cluster/api/pharosv1 cluster/registry/CONFIGURATION.md || { echo "what is generated differs from its source: commit what \`make generate\` made"; exit 1; }

# Each installs only what is missing, and only as root: without root the
# command that needs it says what to install.
deps-lab:
	@if ! { [ -x /usr/lib/frr/bgpd ] && command -v ip >/dev/null && command -v nft >/dev/null; }; then $(call install,$(LAB_PACKAGES)); fi

deps-bench:
	@if ! { command -v haproxy >/dev/null && command -v nginx >/dev/null && command -v wrk >/dev/null && command -v h2load >/dev/null; }; then $(call install,$(BENCH_PACKAGES)); fi

deps-test:
	@if ! { command -v gcc >/dev/null && command -v protoc >/dev/null && [ -e /usr/include/stdlib.h ] && [ -x /usr/sbin/bird ]; }; then $(call install,$(TEST_PACKAGES)); fi

define install
if [ "$$(id -u)" = 0 ]; then echo "installing $(1)"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
else echo "missing Debian packages: run as root: apt-get install $(1)" >&2; exit 1; fi
endef
