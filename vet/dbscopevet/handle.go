package dbscopevet

import (
	"go/ast"
	"go/types"
)

var handleRule = rule("scopehandle", `find handles of sessions that leave their unit

What DB.Session returns, and the transaction that the function of DB.Detached gets, is over with
the unit, and serves one goroutine at a time. A field or a global variable outlives the unit.`, (*scopes).checkHandles)

func (s *scopes) checkHandles() {
	handles := map[types.Object]bool{}
	for _, file := range s.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			s.noteHandle(n, handles)
			return true
		})
	}
	for _, file := range s.pass.Files {
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				s.checkHandle(n, handles)
				return true
			})
		}
	}
}

// noteHandle notes the variables that a session's handle is in.
func (s *scopes) noteHandle(n ast.Node, handles map[types.Object]bool) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if len(n.Rhs) == 1 && s.isSession(n.Rhs[0]) {
			if v := variable(s.info, n.Lhs[0]); v != nil {
				handles[v] = true
			}
		}
	case *ast.CallExpr:
		lit, ok := unitFunc(s.info, n).(*ast.FuncLit)
		if !ok || !calleeOf(s.info, n).is(corePath, "DB.Detached") {
			return
		}
		params := lit.Type.Params.List
		if last := params[len(params)-1].Names; len(last) > 0 {
			if v := s.info.Defs[last[len(last)-1]]; v != nil {
				handles[v] = true
			}
		}
	}
}

func (s *scopes) isSession(e ast.Expr) bool {
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	return ok && calleeOf(s.info, call).is(corePath, "DB.Session")
}

func (s *scopes) checkHandle(n ast.Node, handles map[types.Object]bool) {
	isHandle := func(e ast.Expr) bool {
		id, ok := ast.Unparen(e).(*ast.Ident)
		return ok && handles[s.info.Uses[id]]
	}
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			from := n.Rhs[min(i, len(n.Rhs)-1)]
			if (isHandle(from) && len(n.Lhs) == len(n.Rhs) || i == 0 && s.isSession(from)) && s.outlives(to) {
				s.report(to, types.ExprString(to)+" keeps the handle of a session, which is over with its unit: "+
					"ask for it with DB.Session where it is used")
			}
		}
	case *ast.SendStmt:
		if isHandle(n.Value) {
			s.report(n.Value, leaves)
		}
	default:
		for _, code := range s.launched(n, true) {
			s.checkCaptured(code, handles)
		}
	}
}

const leaves = "the handle of a session goes to another goroutine, and a session serves one at a time: " +
	"use a dbscope.Group, whose functions have sessions of their own"

// checkCaptured reports the first use of a handle from outside in what another goroutine runs.
func (s *scopes) checkCaptured(code ast.Node, handles map[types.Object]bool) {
	found := false
	ast.Inspect(code, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && !found {
			if v := s.info.Uses[id]; handles[v] && !within(v, code) {
				found = true
				s.report(id, leaves)
			}
		}
		return !found
	})
}

// outlives reports whether what is assigned to stays when the function is over: a package's
// variable, or a part of what the function was given.
func (s *scopes) outlives(to ast.Expr) bool {
	v := leftmost(s.info, to)
	if v == nil || v.Name() == "_" {
		return false
	}
	if v.Parent() == s.pass.Pkg.Scope() || v.Pkg() != s.pass.Pkg {
		return true
	}
	_, name := ast.Unparen(to).(*ast.Ident)
	_, pointer := v.Type().Underlying().(*types.Pointer)
	_, of := v.Type().Underlying().(*types.Map)
	return !name && isParam(v) && (pointer || of)
}

// launched returns what the statement or call has another goroutine run. Those of dbscope.Group
// count only if group is true: its functions get a context of their own.
func (s *scopes) launched(n ast.Node, group bool) (code []ast.Node) {
	switch n := n.(type) {
	case *ast.GoStmt:
		return []ast.Node{n.Call}
	case *ast.CallExpr:
		c := calleeOf(s.info, n)
		switch {
		case c.is("golang.org/x/sync/errgroup", "Group.Go", "Group.TryGo"), c.is("sync", "WaitGroup.Go"),
			c.is("time", "AfterFunc"), c.is("context", "AfterFunc"), group && c.is(corePath, "Group.Go"):
			code = append(code, n.Args[len(n.Args)-1])
		}
	}
	return code
}
