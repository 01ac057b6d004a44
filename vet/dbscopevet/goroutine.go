package dbscopevet

import (
	"go/ast"
	"go/types"
)

var goroutineRule = rule("scopegoroutine", `find goroutines that use the unit's context for statements

A session serves one statement at a time, so that statements of two goroutines are refused with
ErrSessionBusy; and one that still runs when the unit ends meets ErrScopeEnded.`, (*scopes).checkGoroutines)

func (s *scopes) checkGoroutines() {
	for _, file := range s.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			for _, code := range s.launched(n, false) {
				s.checkLaunched(code)
			}
			return true
		})
	}
}

// checkLaunched reports the first call in what another goroutine runs that uses the scope of a
// context from outside.
func (s *scopes) checkLaunched(code ast.Node) {
	found := false
	ast.Inspect(code, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || found {
			return !found
		}
		ctx := contextArg(s.info, call)
		if ctx == nil {
			return true
		}
		origin := s.origins.of(ctx)
		if origin == nil || origin == background || within(origin, code) {
			return true
		}
		if s.reach[call]&scoped != 0 || s.reach[call] != 0 && s.unit(origin) {
			found = true
			s.report(call, "another goroutine uses the scope of "+types.ExprString(ctx)+": use a dbscope.Group, or "+
				"dbscope.Run with a context of context.WithoutCancel where the work outlives the unit")
		}
		return true
	})
}
