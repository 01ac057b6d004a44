package child

import (
	"os"
	"path/filepath"
)

// Fetched returns the folder where scripts/fetch-server unpacks a server.
func Fetched(name string) string {
	cache := "/var/cache" // where, unlike in root's home, other users may look
	if os.Geteuid() != 0 {
		cache, _ = os.UserCacheDir() // nothing is found in none
	}
	return filepath.Join(cache, "dbscope-servers", name)
}

// AllServers reports whether also those servers have to be there that few systems have:
// tests that need them fail then, instead of being skipped.
func AllServers() bool { return os.Getenv("DBSCOPE_ALL_SERVERS") != "" }
