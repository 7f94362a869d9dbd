# The targets that people and CI use. `make help` lists them.
GO      ?= go
BIN     := bin/millrace
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help build task check fmt vet lint test sim e2e docs soak fuzz clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

build: ## build bin/millrace
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X millrace/cmd/internal/app.version=$(VERSION)" -o $(BIN) ./cmd/millrace

task: ## build the entrypoint of task images, bin/millrace-task-linux-amd64 and -arm64
	for arch in amd64 arm64; do CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" \
		-o bin/millrace-task-linux-$$arch ./cmd/millrace-task || exit 1; done

check: fmt vet lint test sim e2e ## all that must pass before a commit

fmt: ## fail if a file is not formatted
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not formatted:"; echo "$$out"; exit 1; }

vet: ## go vet
	$(GO) vet ./...

lint: ## staticcheck, as configured in staticcheck.conf
	$(GO) run $(STATICCHECK) ./...

test: ## the tests of all packages, with the race detector; simulations run few schedules here
	set -o pipefail; $(GO) test -race -json -timeout 20m -skip '^TestSoak' $$($(GO) list ./... | grep -v -e /cmd/millrace$$ -e /batcher/seal$$ -e /chaintest$$) | $(GO) run ./cmd/internal/testsum

sim: ## 20,000 simulated schedules of the batcher's worker, 10,000 of the scheduler, real processes that are killed; without the race detector
	set -o pipefail; $(GO) test -json -p 1 -timeout 20m -skip '^TestSoak' ./batcher/seal ./cmd/internal/chaintest ./scheduler/engine | $(GO) run ./cmd/internal/testsum

e2e: ## the built binary as its users meet it: README, faults, figures; alone, so that figures mean something
	set -o pipefail; $(GO) test -json -timeout 20m -skip '^TestSoak' ./cmd/millrace | $(GO) run ./cmd/internal/testsum

docs: ## write the reference of the command line, docs/cli
	$(GO) run ./cmd/millrace docs docs/cli

soak: ## the long tests: docs/testing.md says what each needs and when it last ran
	MILLRACE_SOAK=1 $(GO) test -timeout 60m -run Soak -v ./cmd/... ./scheduler/sqlstore ./scheduler/engine

fuzz: ## each fuzz target for 20 seconds
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 20s $$p || exit 1; done; done

clean: ## remove what was built
	rm -rf bin

SHELL := /bin/bash
