package child

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// queryTimeout bounds a statement, such as one that waits for a lock.
const queryTimeout = 30 * time.Second

// Kind is what differs between the servers of different programs.
type Kind struct {
	Package string           // that runs them: errors and names of directories begin with it
	Name    string           // for people, such as "PostgreSQL"
	User    string           // as which they run where the tests run as root
	Foreign []string         // how variables begin by which a developer's own server would reach into them
	Stop    syscall.Signal   // ends one in order
	Discard syscall.Signal   // ends one whose data nobody wants any more
	Clean   func(dir string) // deletes what one that was killed leaves outside its directory; may be nil
}

// Owner returns nil for the current user, and the servers' user instead of root.
func (k *Kind) Owner() (*Owner, error) {
	owner, err := FindOwner(k.User)
	if err != nil {
		err = fmt.Errorf("%s: %w", k.Package, err)
	}
	return owner, err
}

// Environment is that of this process without what would reach into a server,
// and with the variables given, of the form NAME=value.
func (k *Kind) Environment(extra ...string) []string {
	foreign := append([]string{"LC_", "LANG"}, k.Foreign...)
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc(foreign, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
	return append(append(env, "LC_ALL=C", "TZ=UTC"), extra...)
}

// RemoveAbandoned deletes what test binaries that had no time to have left.
func (k *Kind) RemoveAbandoned() { RemoveAbandoned(k.prefix(), k.Clean) }

func (k *Kind) prefix() string { return "dbscope-" + k.Package + "-" }

// Query runs a client program that executes the statements, and returns what it
// prints without the last line's end.
func (k *Kind) Query(statements string, env []string, client string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, client, args...)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %s: %w\n%s", k.Package, statements, err, stderr.Bytes())
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}
