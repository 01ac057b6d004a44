package dbscope_test

import "github.com/dbscope/dbscope/internal/invariant"

func init() { invariant.Broken = func(what string) { panic(what) } }
