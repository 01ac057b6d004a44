package model_test

import "github.com/dbscope/dbscope/internal/invariant"

// Whatever a program does, a session has only the holders of its table.
func init() { invariant.Broken = func(what string) { panic(what) } }
