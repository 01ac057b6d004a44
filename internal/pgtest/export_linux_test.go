package pgtest

import "github.com/dbscope/dbscope/internal/child"

// Within lists the processes that run in a directory.
func Within(dir string) []int { return child.Within(dir) }
