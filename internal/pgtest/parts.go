package pgtest

// What follows is for packages that run PostgreSQL by other programs.

// Binaries is the directory of PostgreSQL's programs.
func Binaries() (string, error) { return findBinaries() }

// Environment is that of this process without what would reach into a server,
// and with the variables given, of the form NAME=value.
func Environment(extra ...string) []string { return environment(extra...) }

// Owner is the system user that PostgreSQL runs as, where that is not the
// current one: root has user postgres instead.
func Owner() (uid, gid int, differs bool, err error) {
	o, err := findOwner()
	if o == nil {
		return 0, 0, false, err
	}
	return o.uid, o.gid, true, err
}

// MakeDirectory creates a temporary directory of the owner. Once this process
// has ended, [Abandoned] lists it under the same prefix.
func MakeDirectory(prefix string) (string, error) { return makeDirectory(prefix) }

// Abandoned lists the directories of [MakeDirectory] whose process has ended.
func Abandoned(prefix string) []string { return abandoned(prefix) }

// RemoveSharedMemory deletes what a killed server leaves in the kernel, as its
// postmaster.pid tells.
func RemoveSharedMemory(pidFile string) { removeSharedMemory(pidFile) }

// FreePort finds a port of 127.0.0.1 that outgoing connections do not take.
// Somebody else may, before it is used.
func FreePort() (int, error) { return freePort() }

// Psql runs statements as [Server.Query] does, and returns the error.
func Psql(dsn, statements string) (string, error) {
	bin, err := findBinaries()
	if err != nil {
		return "", err
	}
	return psql(bin, dsn, statements)
}

// Tail is the end of a log.
func Tail(file string) string { return tail(file, 0) }
