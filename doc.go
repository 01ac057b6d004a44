// Package dbscope gives every function that has the [context.Context] the same
// database session for one unit of work: a request, a message, a job. The first
// statement opens the session, and the end of the unit commits it or rolls it
// back.
//
// A [Scope] is one unit of work, carried by a context. A [DB] is one database,
// opened by an adapter: package driver/sqlscope for any database/sql driver,
// driver/pgxscope for pgx. A session is one connection with one transaction, of
// one DB in one scope. [DB.Session] returns its native handle, such as a *sql.Tx:
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
// Outside of HTTP, [Run] begins the scope.
//
// # The rules
//
//   - A scope that uses no database does no I/O. A session takes its connection,
//     and begins, with its first statement.
//   - Only an explicit success commits. An error, a panic or [runtime.Goexit]
//     rolls back. The cancellation of the context does not decide.
//   - A session serves one statement at a time. A second one beside it, or beside
//     open rows, returns [ErrSessionBusy]. Concurrent work needs scopes of its
//     own.
//   - If the server has aborted the transaction, no further statement is let
//     through, and the commit returns [ErrRolledBack], also if the caller ignored
//     the error.
//   - If the answer to COMMIT is lost, the error is [ErrCommitUnknown], never
//     "failed".
//   - After the end of a scope its context is of no use: [ErrScopeEnded].
//
// # What else there is
//
//   - [DB.Atomic] is a block that is undone alone; with [Join] a use case is a
//     part of whatever unit it is called in.
//   - [Group] runs work side by side.
//   - [BeforeCommit], [AfterCommit] and [AfterRollback] are hooks.
//   - [Retry] runs a unit again after a deadlock or a serialization failure.
//   - [SettleByStatus] and [SettleByLedger] find out what became of a lost commit.
//   - [Settings] are made in each transaction: a tenant, a role, a timeout.
//   - [DB.Adopt] makes a transaction that other code began the session of a scope.
//   - [DB.SwitchHost] moves to another server. With [Router] and package cluster
//     reads go to replicas, and [ReadYourWrites] lets them see what was just
//     written.
//   - [Observe] tells observers what units do.
//   - Package scopetest has tests that leave nothing behind.
package dbscope
