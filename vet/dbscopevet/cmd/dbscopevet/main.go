// Command dbscopevet is a tool for go vet: go vet -vettool=$(which dbscopevet) ./...
// It runs the analyzers of package dbscopevet, and with -fix makes the changes that they
// suggest. "dbscopevet help" lists them.
package main

import (
	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/dbscope/dbscope/vet/dbscopevet"
)

func main() { unitchecker.Main(dbscopevet.Analyzers()...) }
