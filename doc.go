// Package dbscope gives every function that has the [context.Context] the same
// database session for one unit of work (a request, a message, a job), opens
// it on first use, and commits or rolls it back when the unit ends.
//
// A [Scope] is one unit of work, carried by a context. A [DB] is one database;
// an adapter opens it: package driver/sqlscope for any database/sql driver. A
// session is one connection with one transaction of one DB in one scope. The
// native handle of a session, such as a *sql.Tx, is what [DB.Session] returns;
// dbscope wraps nobody's API.
//
//	var shop = sqlscope.Open("pgx", "postgres://app@127.0.0.1/shop")
//
//	func placeOrder(ctx context.Context, o Order) error {
//		_, err := shop.ExecContext(ctx, `insert into orders ...`, o.ID)
//		return err
//	}
//
//	http.ListenAndServe(addr, httpscope.Middleware()(mux))
//
// Outside HTTP, [Run] makes the scope. [DB.Atomic] nests a block that is undone
// alone, [Group] runs work side by side, hooks such as [AfterCommit] wait for
// the end, [Retry] runs a unit again that the database undid, [SettleByStatus]
// and [SettleByLedger] find out what became of a lost commit. [DB.SwitchHost]
// moves to another server; with [Router] and package cluster reads go to
// replicas, and [ReadYourWrites] keeps them from missing what was just written.
// The rules:
//
//   - A scope that touches no database does no I/O. A session takes its
//     connection and begins with its first statement.
//   - Only explicit success commits: an error, a panic or [runtime.Goexit] rolls
//     back. The cancellation of the context decides nothing at the end.
//   - A session serves one statement at a time. A second one beside it, or
//     beside open rows, is [ErrSessionBusy]; concurrent work runs in scopes of
//     its own.
//   - A transaction that the server aborted lets no statement through and fails
//     the commit with [ErrRolledBack], also when the caller ignored the error.
//   - A commit whose answer was lost is [ErrCommitUnknown], never "failed".
//   - After its end every use of a scope's context is [ErrScopeEnded].
package dbscope
