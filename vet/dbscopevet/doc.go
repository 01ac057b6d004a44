// Package dbscopevet finds, in programs that use dbscope, what a compiler cannot: statements
// that run outside of the unit of work that they were meant for, handles and contexts that
// leave their unit, and units that hold a transaction while they do something slow.
//
// It is run by go vet:
//
//	go install github.com/dbscope/dbscope/vet/dbscopevet/cmd/dbscopevet@latest
//	go vet -vettool=$(which dbscopevet) ./...
//
// Package plugin is for golangci-lint. Each rule is an analyzer, which a flag of its name
// turns off, as in -scopeslow=false. The page docs/vet.md shows each with its remedy.
//
// The rules are silent where they cannot know: what a dynamic call does, or a pool that comes
// from another package. A finding that is meant to be so is silenced by a comment with the
// reason, on its line or the one above:
//
//	//dbscopevet:ignore the audit must be stored even if the order is not
package dbscopevet

import (
	"slices"

	"golang.org/x/tools/go/analysis"
)

// Analyzers returns the rules, in the order of docs/vet.md. It is safe for concurrent use.
func Analyzers() []*analysis.Analyzer { return slices.Clone(rules) }

var rules = []*analysis.Analyzer{
	poolRule, contextRule, backgroundRule, handleRule, retryRule, goroutineRule, slowRule,
}
