package dbscopevet

import (
	"go/ast"
	"go/token"
	"go/types"
	"regexp"
	"strings"

	"golang.org/x/tools/go/analysis"
)

var retryRule = rule("scoperetry", `find functions with Retry that add to variables outside of themselves

What a retried function appends, counts or puts into a map is there again after each attempt. A
plain assignment, which the next attempt overwrites, and what the function sets anew before, are
not found; nor are variables that count attempts by their name.`, (*scopes).checkRetries)

func (s *scopes) checkRetries() {
	seen := map[ast.Node]bool{}       // of a retried function in another one
	groups := map[types.Object]bool{} // those with Retry
	for _, file := range s.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			if n, ok := n.(*ast.AssignStmt); ok && len(n.Lhs) == 1 && len(n.Rhs) == 1 {
				if call, ok := n.Rhs[0].(*ast.CallExpr); ok && calleeOf(s.info, call).is(corePath, "NewGroup") && hasOption(s.info, call.Args, "Retry") {
					groups[variable(s.info, n.Lhs[0])] = true
				}
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			lit, ok := unitFunc(s.info, call).(*ast.FuncLit)
			if ok && (hasOption(s.info, call.Args, "Retry") || groups[variable(s.info, receiver(call))]) {
				s.checkRetried(lit, seen)
			}
			return true
		})
	}
}

func (s *scopes) checkRetried(lit *ast.FuncLit, seen map[ast.Node]bool) {
	ast.Inspect(lit.Body, func(n ast.Node) bool {
		to := s.addsTo(n)
		if to == nil || seen[n] {
			return true
		}
		v := leftmost(s.info, to)
		if v == nil || within(v, lit) || attempts.MatchString(types.ExprString(to)) || s.resets(lit, to, n.Pos()) {
			return true
		}
		seen[n] = true
		s.report(n, types.ExprString(to)+" is outside of a function that is retried, and keeps what earlier attempts added: "+
			"begin the function by setting it anew", s.reset(v, to, lit)...)
		return true
	})
}

// attempts matches the names of what is meant to count them.
var attempts = regexp.MustCompile(`(?i)attempt|tries|try\b|retr|calls|runs`)

// addsTo returns what the statement adds to: x++, x += 1, x = append(x, y), m[k] = v,
// delete(m, k), b.WriteString(s).
func (s *scopes) addsTo(n ast.Node) ast.Expr {
	switch n := n.(type) {
	case *ast.IncDecStmt:
		return n.X
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			if index, ok := to.(*ast.IndexExpr); ok {
				if _, ok := s.info.TypeOf(index.X).Underlying().(*types.Map); ok {
					return index.X
				}
			}
			if n.Tok != token.ASSIGN && n.Tok != token.DEFINE || len(n.Lhs) == len(n.Rhs) && n.Tok == token.ASSIGN && s.extends(to, n.Rhs[i]) {
				return to
			}
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "delete" && s.info.Uses[id] == types.Universe.Lookup("delete") {
			return n.Args[0]
		}
		c := calleeOf(s.info, n)
		if c.fn != nil && strings.HasPrefix(c.fn.Name(), "Write") && (c.pkg == "strings" && strings.HasPrefix(c.name, "Builder.") ||
			c.pkg == "bytes" && strings.HasPrefix(c.name, "Buffer.")) && c.fn.Name() != "WriteTo" {
			return receiver(n)
		}
	}
	return nil
}

// extends reports whether the new value of x is made of the old one; x[:0] is empty.
func (s *scopes) extends(x, value ast.Expr) bool {
	name := types.ExprString(x)
	if types.ExprString(value) == name+"[:0]" {
		return false
	}
	found := false
	ast.Inspect(value, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok && types.ExprString(e) == name {
			found = true
		}
		return !found
	})
	return found
}

// resets reports whether the function sets x anew, unconditionally, before the position.
func (s *scopes) resets(lit *ast.FuncLit, x ast.Expr, before token.Pos) bool {
	name := types.ExprString(x)
	for _, stmt := range lit.Body.List {
		if stmt.Pos() >= before {
			return false
		}
		switch stmt := stmt.(type) {
		case *ast.AssignStmt:
			for i, to := range stmt.Lhs {
				if stmt.Tok == token.ASSIGN && strings.HasPrefix(name+".", types.ExprString(to)+".") &&
					(len(stmt.Lhs) != len(stmt.Rhs) || !s.extends(to, stmt.Rhs[i])) {
					return true
				}
			}
		case *ast.ExprStmt: // clear(m), b.Reset()
			if call, ok := stmt.X.(*ast.CallExpr); ok {
				switch text := types.ExprString(call); text {
				case "clear(" + name + ")", name + ".Reset()":
					return true
				}
			}
		}
	}
	return false
}

// reset suggests to set the variable anew where that is what it began as: it is declared without
// a value, and nothing but the function assigns to it.
func (s *scopes) reset(v types.Object, x ast.Expr, lit *ast.FuncLit) []analysis.SuggestedFix {
	id, ok := x.(*ast.Ident)
	if !ok || s.assignedOutside(v, lit) {
		return nil
	}
	zero := ""
	switch t := v.Type().Underlying().(type) {
	case *types.Slice:
		zero = "nil"
	case *types.Basic:
		switch {
		case t.Info()&types.IsNumeric != 0:
			zero = "0"
		case t.Info()&types.IsString != 0:
			zero = `""`
		}
	}
	if zero == "" || !s.means(v, lit.Body.List[0]) {
		return nil
	}
	at := lit.Body.List[0].Pos()
	indent := strings.Repeat("\t", s.pass.Fset.Position(at).Column-1)
	return []analysis.SuggestedFix{replace("Set "+id.Name+" anew in each attempt", at, at, id.Name+" = "+zero+"\n"+indent)}
}

// assignedOutside reports whether the variable has a value when the function is first called: it
// is not declared by a plain var, or something else assigns to it or takes its address.
func (s *scopes) assignedOutside(v types.Object, lit *ast.FuncLit) bool {
	declared, assigned := false, false
	for _, file := range s.pass.Files {
		if !within(v, file) {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			var to []ast.Expr
			switch n := n.(type) {
			case *ast.ValueSpec:
				for _, name := range n.Names {
					declared = declared || s.info.Defs[name] == v && len(n.Values) == 0
				}
			case *ast.AssignStmt:
				to = n.Lhs
			case *ast.IncDecStmt:
				to = []ast.Expr{n.X}
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					to = []ast.Expr{n.X}
				}
			}
			for _, e := range to {
				if leftmost(s.info, e) == v && (n.Pos() < lit.Pos() || n.Pos() >= lit.End()) {
					assigned = true
				}
			}
			return true
		})
	}
	return !declared || assigned || v.Parent() == s.pass.Pkg.Scope()
}
