package dbscopevet

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"
)

const poolName = "scopepool"

var poolRule = rule(poolName, `find statements on a pool where a unit of work is at hand

What is sent through a pool, a *pgxpool.Pool or the *sql.DB of sql.Open, is stored by itself,
whatever becomes of the unit. It is found where the unit's context is given to it, and inside
the function of a unit.`, (*scopes).checkPools)

// checkPools looks at each call on its own, and remembers in the function of which unit it is.
func (s *scopes) checkPools() {
	for _, file := range s.pass.Files {
		s.inUnits(file, func(call *ast.CallExpr, unit *ast.FuncLit) {
			what, pool := s.onPool(call)
			if what == "" {
				return
			}
			ctx := contextArg(s.info, call)
			if unit == nil && (ctx == nil || !s.unit(s.origins.of(ctx))) {
				return
			}
			s.report(call, what+" of "+types.ExprString(pool)+" runs outside of the unit of work, on the pool: "+
				"use the dbscope DB instead, or its Detached where it shall be stored whatever becomes of the unit")
		})
	}
}

// inUnits calls visit for each call in a file, with the innermost literal that is the function
// of a unit. A go statement leaves the unit.
func (s *scopes) inUnits(file *ast.File, visit func(call *ast.CallExpr, unit *ast.FuncLit)) {
	var walk func(n ast.Node, unit *ast.FuncLit)
	walk = func(n ast.Node, unit *ast.FuncLit) {
		ast.Inspect(n, func(child ast.Node) bool {
			switch child := child.(type) {
			case *ast.GoStmt:
				if unit != nil {
					walk(child.Call, nil)
					return false
				}
			case *ast.FuncLit:
				if _, ok := s.units[child]; ok && child != n {
					walk(child, child)
					return false
				}
			case *ast.CallExpr:
				visit(child, unit)
			}
			return true
		})
	}
	walk(file, nil)
}

var (
	onSQL = []string{"Exec", "ExecContext", "Query", "QueryContext", "QueryRow", "QueryRowContext", "Prepare", "PrepareContext", "Begin", "BeginTx"}
	onPgx = []string{"Exec", "Query", "QueryRow", "SendBatch", "CopyFrom", "Begin", "BeginTx", "BeginFunc", "BeginTxFunc"}
)

const pgxpoolPath = "github.com/jackc/pgx/v5/pgxpool"

// onPool returns the name of a method that sends a statement through a pool, and the pool. To
// take a connection from it is nothing that happens by mistake, and so not among them. A pool
// that is given to a function as what sends statements counts too.
func (s *scopes) onPool(call *ast.CallExpr) (what string, pool ast.Expr) {
	c := calleeOf(s.info, call)
	if c.fn == nil {
		return "", nil
	}
	switch recv := receiver(call); {
	case c.pkg == "database/sql" && isNamed(s.info.TypeOf(recv), "database/sql", "DB") && slices.Contains(onSQL, c.fn.Name()):
		if s.isPool(recv) {
			return c.fn.Name(), recv
		}
	case c.pkg == pgxpoolPath && isNamed(s.info.TypeOf(recv), pgxpoolPath, "Pool") && slices.Contains(onPgx, c.fn.Name()):
		return c.fn.Name(), recv
	}
	if strings.HasPrefix(c.pkg+"/", corePath+"/") && !s.own(c.fn) {
		return "", nil
	}
	params := c.fn.Signature().Params()
	for i, arg := range call.Args {
		if i < params.Len() && sends(params.At(i).Type()) &&
			(isNamed(s.info.TypeOf(arg), pgxpoolPath, "Pool") || isNamed(s.info.TypeOf(arg), "database/sql", "DB") && s.isPool(arg)) {
			return types.ExprString(call.Fun), arg
		}
	}
	return "", nil
}

// sends reports whether the type is an interface of what sends statements, as the DBTX of sqlc.
func sends(t types.Type) bool {
	iface, ok := t.Underlying().(*types.Interface)
	if !ok {
		return false
	}
	for method := range iface.Methods() {
		if isStatement(callee{method, "", ""}, t) {
			return true
		}
	}
	return false
}

// isPool reports whether a *sql.DB is known to be a pool, and not what DB.SQL returned: all that
// is assigned to the variable in this package comes from where pools come from.
func (s *scopes) isPool(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.CallExpr:
		c := calleeOf(s.info, e)
		return c.is("database/sql", "Open", "OpenDB") || c.is(sqlPath, "DB.Engine") ||
			c.is("github.com/jackc/pgx/v5/stdlib", "OpenDB", "OpenDBFromPool")
	case *ast.Ident, *ast.SelectorExpr:
		v := s.ownHandle(e)
		return v != nil && !slices.ContainsFunc(s.handles[v], func(e ast.Expr) bool {
			return variable(s.info, e) == v || !s.isPool(e)
		})
	}
	return false
}
