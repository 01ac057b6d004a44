# make check, make test and make bench are what a change is judged by.
MODULES := $(shell GOWORK= go list -m -f '{{.Dir}}')
BIN     := $(CURDIR)/.bin
ROOT    := github.com/dbscope/dbscope

.PHONY: check vet-scopes vuln licences release docs setup test test-versions test-cluster test-servers test-long soak idempotent bench bench-service performance screenshots cluster cluster-kill clean

# Each module by itself, as its users see it: without go.work.
check: export GOWORK = off
check: $(BIN)/golangci-lint
	@out=$$($(BIN)/gofumpt -l .); test -z "$$out" || { echo "not gofumpt-ed:"; echo "$$out"; exit 1; }
	@deps=$$(go list -deps -test -f '{{if not .Standard}}{{.ImportPath}} {{end}}' ./...) || exit 1; \
		foreign=$$(echo "$$deps" | grep -v '^$(ROOT)[/ ._]'); \
		test -z "$$foreign" || { echo "the root module imports more than the standard library:"; echo "$$foreign"; exit 1; }
	@go test ./internal/layers # which file may use which
	@sum=$$(cksum <go.work.sum); GOWORK= go list -m all >/dev/null && test "$$sum" = "$$(cksum <go.work.sum)" || \
		{ echo "go.work.sum has grown: commit it"; exit 1; }
	@set -e; for dir in $(MODULES); do cd $$dir; \
		test -n "$$(find . -name '*.go' -print -quit)" || { echo "== $$dir: no packages yet"; continue; }; \
		echo "== $$dir"; go mod tidy -diff; go vet ./...; go fix -diff ./...; $(BIN)/golangci-lint run --allow-parallel-runners; done
	@cd tools/release && go mod tidy -diff && go vet ./...

# The analyzers of vet/dbscopevet on the programs that others copy from.
vet-scopes:
	cd vet/dbscopevet && GOWORK=off go build -o $(BIN)/dbscopevet ./cmd/dbscopevet
	cd examples && GOWORK=off go vet -vettool=$(BIN)/dbscopevet ./...

# Known vulnerabilities in what the modules are built with, and in how they use it.
# Where the database cannot be reached that is said, and nothing fails.
vuln: $(BIN)/govulncheck
	@GOWORK=off go run -C tools/release . -repo $(CURDIR) -bin $(BIN) -vuln

# The modules of others and their licences, in THIRD_PARTY.md.
licences:
	@GOWORK=off go run -C tools/release . -repo $(CURDIR) -licences

# Tries the release of VERSION, or the next one, in a scratch folder and changes
# nothing. With DRY=no the commits and the tags stay. It pushes nothing.
release: $(BIN)/gorelease
	@GOWORK=off go run -C tools/release . -repo $(CURDIR) -bin $(BIN) -version '$(VERSION)' $(if $(filter no,$(DRY)),-keep)

$(BIN)/gorelease $(BIN)/govulncheck: tools/release/go.mod tools/release/go.sum
	cd tools/release && GOWORK=off go build -o $(BIN)/ tool
	@touch $(BIN)/gorelease $(BIN)/govulncheck

# The pages of docs as a site, in site/.vitepress/dist. Every link and anchor is
# checked, those of the other Markdown files too.
docs: site/node_modules/.package-lock.json
	cd site && npm run --silent build

site/node_modules/.package-lock.json: site/package.json site/package-lock.json
	@command -v npm >/dev/null || { echo "make docs needs Node.js 20 or newer, with npm"; exit 1; }
	cd site && npm ci --no-audit --no-fund && touch node_modules/.package-lock.json

# Finds the servers that the tests start, installs those that are missing unless
# SETUP=no, and prints their versions.
setup:
	@scripts/setup

# A package's tests get more than go test's ten minutes, for busy machines.
test: setup
	go test -run Allocations ./middleware/httpscope # the race detector allocates too
	cd tools/release && GOWORK=off go test -shuffle=on ./...
	go test -race -shuffle=on -timeout=30m work

# The modules that others require, with the oldest and the newest versions of what they
# are adapters of. go test work has other versions: the newest that any module requires.
test-versions: setup
	@scripts/test-versions

# What happens to a service while Patroni's primaries fail, and replicas stop.
test-cluster: setup
	DBSCOPE_LONG=1 go test -race -count=1 -timeout=60m -v ./tests/cluster ./internal/patronitest

# The suites on all versions of all servers that can be had, which are unpacked and not
# installed, and a table of what passed. FLAGS choose: -only 'PostgreSQL 18',
# -suite pgxscope, -short.
test-servers: setup
	go run ./internal/servers/matrix $(FLAGS)

test-long: setup
	DBSCOPE_LONG=1 go test -race -shuffle=on -timeout=60m work

# A mixed load while all databases fail, SOAK=1h of it. The series goes to
# .soak/soak.csv, with PLOT=docs/img/soak.svg also into a picture.
SOAK ?= 5m
soak: setup
	@mkdir -p .soak
	SOAK=$(SOAK) SOAK_CSV=$(CURDIR)/.soak/soak.csv SOAK_PLOT=$(if $(PLOT),$(abspath $(PLOT))) \
		go test -count=1 -timeout=0 -v ./tests/soak

# ORDERS on each database by clients that repeat their requests, while the service and
# the servers are killed: each is stored once.
ORDERS ?= 10000
idempotent: setup
	IDEMPOTENT=$(ORDERS) go test -race -count=1 -timeout=0 -v -run Campaign ./tests/idempotent

# The pictures of the pages in docs/img.
screenshots: setup
	cd tests && SCREENSHOTS=$(CURDIR)/docs/img go test -count=1 -v -run Screenshots ./browser

bench: setup
	cd driver/pgxscope && go test -bench . -run '^$$' .
	cd bench && go test -bench . -benchmem -run '^$$' . && go test -bench . -benchtime 1x -run '^$$' ./roundtrips
	cd tests/libraries && go test -bench . -run '^$$' .

# Services that answer requests from a database, by hand and with libraries, in
# turn: tables of each kind of request. FLAGS choose others:
# make bench-service FLAGS='-cells read -clients 1,64', or -h.
bench-service: setup
	cd bench && go run ./service -db postgres,mariadb $(FLAGS)

# All that docs/performance.md says, in BUDGET of time; NOTE is a sentence for it.
BUDGET ?= 25m
performance: setup
	cd bench && go run ./performance -budget $(BUDGET) -note '$(NOTE)'

# Three nodes with Patroni, to run examples on, and a kill -9 of their primary.
cluster:
	@mkdir -p $(BIN) && go build -o $(BIN)/cluster ./examples/cluster && exec $(BIN)/cluster

cluster-kill:
	@go run ./examples/cluster -kill

# Linters are built once, from the versions in tools/go.mod.
$(BIN)/golangci-lint: tools/go.mod tools/go.sum
	cd tools && GOWORK=off go build -o $(BIN)/ tool
	@touch $@

clean:
	rm -rf $(BIN)
