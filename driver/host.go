package driver

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dbscope/dbscope/internal/hostname"
)

// WithHost returns a connection string with the host, of which the core has made
// sure that it is one, in the place of {host}. It is an error where one of the two
// is missing, or where the path of a socket would become the path of a URL; what
// is the driver's word for such a string.
func WithHost(what, connString, host string) (string, error) {
	switch holds := strings.Contains(connString, "{host}"); {
	case holds && host == "":
		return "", fmt.Errorf("the %s holds {host}, but no host is set: pass dbscope.Host to Open, or call SwitchHost", what)
	case !holds && host != "":
		return "", fmt.Errorf("the %s has no {host} to stand for host %s", what, host)
	case hostname.IsPath(host) && strings.Contains(connString, "://"):
		return "", errors.New("the path of a socket cannot stand for {host} in a URL: use keywords and values, as in host={host}")
	}
	return strings.ReplaceAll(connString, "{host}", host), nil
}
