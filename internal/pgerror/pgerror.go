// Package pgerror knows what PostgreSQL's errors tell of a transaction, by their
// SQLSTATE and by the function of the server's source that raised them, for the
// adapters that read them from their libraries.
package pgerror

// Transient reports whether the same transaction may not meet the failure again:
// a serialization failure, a deadlock, or a statement of which the library
// remembers what it was before a table was altered. The result would have other
// columns than when the statement was prepared, or than when it was described;
// the library has forgotten it by the next attempt.
func Transient(code, routine string) bool {
	switch code {
	case "40001", "40P01":
		return true
	case "0A000":
		return routine == "RevalidateCachedQuery"
	case "08P01":
		return routine == "PortalSetResultFormat"
	}
	return false
}

// WriteRefused reports whether the transaction, or the server, is read-only.
func WriteRefused(code string) bool { return code == "25006" }

// EndedUncommitted reports whether the error ended the session while its
// transaction was not committed. ProcessInterrupts raises it where interrupts are
// not held off, which they are from before the commit is written until it is
// done, and secure_read while the server waits for the client. What ends the
// session later is a warning, for an error would, in the words of
// SyncRepWaitForLSN, "lead the client to believe that the transaction aborted".
// The SQLSTATE is not enough: poolers, and other servers that speak the protocol,
// use the same ones at other times. They do not name these routines.
func EndedUncommitted(routine string) bool {
	return routine == "ProcessInterrupts" || routine == "secure_read"
}
