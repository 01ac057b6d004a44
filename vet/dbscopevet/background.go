package dbscopevet

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
)

var backgroundRule = rule("scopebackground", `find context.Background and context.TODO where a scope is needed

Such a context has no scope, so that a statement with it answers ErrNoScope, or is stored by
itself on a DB with AllowUnscoped. Methods of a *sql.DB that take no context, as Query, have
that one too.`, (*scopes).checkBackgrounds)

func (s *scopes) checkBackgrounds() {
	for _, file := range s.pass.Files {
		s.inFuncs(file, func(call *ast.CallExpr, around []ast.Node) {
			if db := s.contextless(call); db != nil {
				name := calleeOf(s.info, call).fn.Name()
				if s.atHand(around, call) == "" && !s.strict[variable(s.info, db)] {
					return
				}
				s.report(call, name+" runs under context.Background, which has no scope: use "+withContext[name]+
					", with the context of the unit", s.addContext(call, around)...)
				return
			}
			if s.reach[call]&scoped == 0 {
				return
			}
			ctx := contextArg(s.info, call)
			if s.origins.of(ctx) != background {
				return
			}
			atHand := s.atHand(around, call)
			if atHand == "" && !s.certain(call) {
				return
			}
			var fixes []analysis.SuggestedFix
			if atHand != "" && isBackground(s.info, ctx) && s.mentionsContext(file) {
				fixes = append(fixes, replace("Use "+atHand, ctx.Pos(), ctx.End(), atHand))
			}
			s.report(ctx, types.ExprString(ctx)+" has no scope: use the context of the unit, or begin one with dbscope.Run", fixes...)
		})
	}
}

// inFuncs calls visit for each call in a file, with the functions around it, outermost first.
func (s *scopes) inFuncs(file *ast.File, visit func(call *ast.CallExpr, around []ast.Node)) {
	var around, nodes []ast.Node
	ast.Inspect(file, func(n ast.Node) bool {
		if n == nil {
			last := nodes[len(nodes)-1]
			nodes = nodes[:len(nodes)-1]
			if isFunc(last) {
				around = around[:len(around)-1]
			}
			return true
		}
		nodes = append(nodes, n)
		if isFunc(n) {
			around = append(around, n)
		}
		if call, ok := n.(*ast.CallExpr); ok {
			visit(call, around)
		}
		return true
	})
}

func isFunc(n ast.Node) bool {
	switch n.(type) {
	case *ast.FuncDecl, *ast.FuncLit:
		return true
	}
	return false
}

func isBackground(info *types.Info, e ast.Expr) bool {
	call, ok := ast.Unparen(e).(*ast.CallExpr)
	return ok && calleeOf(info, call).is("context", "Background", "TODO")
}

// withContext has the methods of a *sql.DB that take no context, and what takes one.
var withContext = map[string]string{
	"Exec": "ExecContext", "Query": "QueryContext", "QueryRow": "QueryRowContext", "Prepare": "PrepareContext", "Begin": "BeginTx",
}

// mentionsContext reports whether the file needs its import of context for more than Background.
func (s *scopes) mentionsContext(file *ast.File) (found bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			obj := s.info.Uses[sel.Sel]
			found = found || obj != nil && obj.Pkg() != nil && obj.Pkg().Path() == "context" &&
				obj.Name() != "Background" && obj.Name() != "TODO" && obj.Parent() == obj.Pkg().Scope()
		}
		return !found
	})
	return found
}

// contextless returns the DB where the call is of one of database/sql's methods without a
// context, on a handle of DB.SQL; else nil.
func (s *scopes) contextless(call *ast.CallExpr) ast.Expr {
	c := calleeOf(s.info, call)
	if c.fn == nil || withContext[c.fn.Name()] == "" || !c.is("database/sql", "DB."+c.fn.Name()) {
		return nil
	}
	return s.ambient(receiver(call))
}

// ambient returns the DB that a *sql.DB is of, where all that is assigned to it comes from DB.SQL
// of one that is not known to have AllowUnscoped.
func (s *scopes) ambient(e ast.Expr) (db ast.Expr) {
	switch e := ast.Unparen(e).(type) {
	case *ast.CallExpr:
		c := calleeOf(s.info, e)
		if (c.is(sqlPath, "DB.SQL") || c.is(pgxPath, "DB.SQL")) && !s.allowsUnscoped(receiver(e)) {
			return receiver(e)
		}
	case *ast.Ident, *ast.SelectorExpr:
		v := s.ownHandle(e)
		if v == nil {
			return nil
		}
		for _, from := range s.handles[v] {
			if variable(s.info, from) == v {
				return nil
			}
			if db = s.ambient(from); db == nil {
				return nil
			}
		}
	}
	return db
}

// ownHandle returns the variable where all that is assigned to it is known.
func (s *scopes) ownHandle(e ast.Expr) *types.Var {
	v, _ := variable(s.info, e).(*types.Var)
	if v == nil || isParam(v) || v.IsField() && v.Exported() || len(s.handles[v]) == 0 {
		return nil
	}
	return v
}

// addContext suggests QueryContext(ctx, ...) for Query(...).
func (s *scopes) addContext(call *ast.CallExpr, around []ast.Node) []analysis.SuggestedFix {
	ctx := s.atHand(around, call)
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if ctx == "" || !ok {
		return nil
	}
	name, args := withContext[sel.Sel.Name], ctx
	if len(call.Args) > 0 {
		args += ", "
	} else {
		args += ", nil" // BeginTx
	}
	fix := replace("Use "+name, sel.Sel.Pos(), sel.Sel.End(), name)
	fix.TextEdits = append(fix.TextEdits, analysis.TextEdit{Pos: call.Lparen + 1, End: call.Lparen + 1, NewText: []byte(args)})
	return []analysis.SuggestedFix{fix}
}

// certain reports whether the call fails whatever the options of the DB are, or the DB is seen
// to be a strict one. A function of which that was found out before counts as strict.
func (s *scopes) certain(call *ast.CallExpr) bool {
	c := calleeOf(s.info, call)
	if c.is(corePath, transactional...) {
		return true
	}
	if opens[c.pkg] == nil {
		return false
	}
	return s.strict[variable(s.info, receiver(call))]
}

// atHand returns the context that the innermost function with a context or a request has got.
func (s *scopes) atHand(around []ast.Node, at ast.Node) string {
	for i := len(around) - 1; i >= 0; i-- {
		var params *ast.FieldList
		switch fn := around[i].(type) {
		case *ast.FuncDecl:
			params = fn.Type.Params
		case *ast.FuncLit:
			params = fn.Type.Params
		}
		for _, field := range params.List {
			for _, name := range field.Names {
				v := s.info.Defs[name]
				if v == nil || name.Name == "_" || !s.means(v, at) {
					continue
				}
				switch {
				case isContext(v.Type()):
					return name.Name
				case isNamed(v.Type(), "net/http", "Request"):
					return name.Name + ".Context()"
				}
			}
		}
	}
	return ""
}
