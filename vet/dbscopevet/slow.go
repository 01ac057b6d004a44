package dbscopevet

import (
	"go/ast"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis/passes/ctrlflow"
	"golang.org/x/tools/go/cfg"
)

var slowRule = rule("scopeslow", `find slow work while a transaction is open

Hashing a password, an HTTP request, a program that is run and time.Sleep, after a statement of
a unit and before another one or the end of the unit's function: the transaction keeps its
connection, and the rows that it has locked, for as long. A function of the same module that does
one of them counts too.`, (*scopes).checkSlow, ctrlflow.Analyzer)

// slow is the fact that a function does something slow.
type slow struct {
	What string
	In   string // the path of the function's module
}

func (*slow) AFact()           {}
func (s *slow) String() string { return "slow: " + s.What }

// slowCalls has what is known to take milliseconds, by package.
var slowCalls = map[string][]string{
	"golang.org/x/crypto/bcrypt": {"GenerateFromPassword", "CompareHashAndPassword"},
	"golang.org/x/crypto/argon2": {"Key", "IDKey"},
	"golang.org/x/crypto/scrypt": {"Key"},
	"golang.org/x/crypto/pbkdf2": {"Key"},
	"crypto/pbkdf2":              {"Key"},
	"net/http":                   {"Get", "Head", "Post", "PostForm", "Client.Do", "Client.Get", "Client.Head", "Client.Post", "Client.PostForm"},
	"net/smtp":                   {"SendMail"},
	"os/exec":                    {"Cmd.Run", "Cmd.Output", "Cmd.CombinedOutput", "Cmd.Wait"},
	"time":                       {"Sleep"},
}

// slowCall returns what is slow about a call, or "".
func (s *scopes) slowCall(call *ast.CallExpr) string {
	c := calleeOf(s.info, call)
	if c.fn == nil {
		return ""
	}
	if c.is(c.pkg, slowCalls[c.pkg]...) {
		return c.fn.Pkg().Name() + "." + c.name
	}
	if fact, ok := s.slowly[c.fn]; ok && fact.In == s.module {
		return fact.What
	}
	return ""
}

// findSlow finds the functions of the package that do something slow, not in another goroutine
// nor in a function that they only make.
func (s *scopes) findSlow() {
	for again := true; again; {
		again = false
		for _, file := range s.pass.Files {
			for _, decl := range file.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok || fn.Body == nil {
					continue
				}
				obj, _ := s.info.Defs[fn.Name].(*types.Func)
				if _, known := s.slowly[obj]; known || obj == nil {
					continue
				}
				for _, call := range calls(fn.Body) {
					if what := s.slowCall(call); what != "" {
						s.slowly[obj] = slow{what, s.module}
						again = true
						break
					}
				}
			}
		}
	}
}

// calls returns the calls that are made where the node is run, in their order.
func calls(n ast.Node) (all []*ast.CallExpr) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit, *ast.GoStmt, *ast.DeferStmt:
			return false
		case *ast.CallExpr:
			defer func() { all = append(all, n) }()
		}
		return true
	})
	return all
}

func (s *scopes) checkSlow() {
	flow := s.pass.ResultOf[ctrlflow.Analyzer].(*ctrlflow.CFGs)
	for _, file := range s.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Body != nil {
					s.checkFlow(flow.FuncDecl(n), n.Body, false)
				}
			case *ast.FuncLit:
				_, unit := s.units[n]
				s.checkFlow(flow.FuncLit(n), n.Body, unit)
			}
			return true
		})
	}
}

// checkFlow reports the slow calls that a statement comes before on some way through the
// function, and another one, or a commit, after; or nothing, where the function is that of a unit.
func (s *scopes) checkFlow(g *cfg.CFG, body *ast.BlockStmt, unit bool) {
	seen := map[*ast.CallExpr]bool{} // by the transaction of another context
	for _, ctx := range s.unitContexts(body) {
		f := &flowOf{scopes: s, ctx: ctx, seen: seen, before: map[*cfg.Block]bool{}, after: map[*cfg.Block]bool{}}
		f.solve(g)
		for _, b := range g.Blocks {
			if b.Live {
				f.report(b, unit)
			}
		}
	}
}

// unitContexts returns the contexts of units that the function's own calls get.
func (s *scopes) unitContexts(body *ast.BlockStmt) (all []types.Object) {
	seen := map[types.Object]bool{}
	for _, call := range calls(body) {
		if s.reach[call] == 0 {
			continue
		}
		if v := s.origins.of(contextArg(s.info, call)); s.unit(v) && !seen[v] {
			seen[v] = true
			all = append(all, v)
		}
	}
	return all
}

// flowOf is the way of one context's transaction through a function.
type flowOf struct {
	*scopes
	ctx    types.Object
	seen   map[*ast.CallExpr]bool
	before map[*cfg.Block]bool // a transaction may be open where the block begins
	after  map[*cfg.Block]bool // a statement or a commit may follow where the block has ended
}

// event is what a call is to the transaction.
type event uint8

const (
	nothing event = iota
	runs
	closes
)

func (f *flowOf) event(call *ast.CallExpr) event {
	c := calleeOf(f.info, call)
	if c.is(corePath, ends...) {
		return closes
	}
	ctx := contextArg(f.info, call)
	if f.reach[call] == 0 || f.origins.of(ctx) != f.ctx || c.is(c.pkg, asks[c.pkg]...) {
		return nothing
	}
	return runs
}

// each calls visit with the calls of a block, in their order.
func each(b *cfg.Block, visit func(*ast.CallExpr)) {
	for _, n := range b.Nodes {
		for _, call := range calls(n) {
			visit(call)
		}
	}
}

// through returns whether a transaction is open at the end of the block.
func (f *flowOf) through(b *cfg.Block) bool {
	open := f.before[b]
	each(b, func(call *ast.CallExpr) {
		switch f.event(call) {
		case runs:
			open = true
		case closes:
			open = false
		}
	})
	return open
}

func (f *flowOf) has(b *cfg.Block) (found bool) {
	each(b, func(call *ast.CallExpr) { found = found || f.event(call) != nothing })
	return found
}

func (f *flowOf) solve(g *cfg.CFG) {
	for again := true; again; {
		again = false
		for _, b := range g.Blocks {
			if !b.Live {
				continue
			}
			open := f.through(b)
			for _, next := range b.Succs {
				if open && !f.before[next] {
					f.before[next], again = true, true
				}
				if !f.after[b] && (f.after[next] || f.has(next)) {
					f.after[b], again = true, true
				}
			}
		}
	}
}

func (f *flowOf) report(b *cfg.Block, unit bool) {
	var all []*ast.CallExpr
	each(b, func(call *ast.CallExpr) { all = append(all, call) })
	open := f.before[b]
	for i, call := range all {
		switch f.event(call) {
		case runs:
			open = true
			continue
		case closes:
			open = false
			continue
		}
		what := f.slowCall(call)
		if what == "" || !open || f.seen[call] {
			continue
		}
		follows := unit || f.after[b]
		for _, next := range all[i+1:] {
			follows = follows || f.event(next) != nothing
		}
		if follows {
			f.seen[call] = true
			f.scopes.report(call, said(what, types.ExprString(call.Fun))+" while a transaction is open, which keeps its connection and its locks: "+
				"do it before the first statement, or after the end of the unit with dbscope.AfterCommit")
		}
	}
}

// said names what is slow, and by which call it happens where that is another.
func said(what, by string) string {
	if name := what[strings.LastIndexByte(what, '.')+1:]; by == name || strings.HasSuffix(by, "."+name) {
		return what + " runs"
	}
	return what + " runs, in " + by + ","
}
