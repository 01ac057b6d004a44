package pgtest

// Within lists the processes that run in a directory.
func Within(dir string) []int { return within(dir) }
