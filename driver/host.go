package driver

import (
	"fmt"
	"strings"
)

// WithHost returns a connection string with the host in the place of {host}. It
// is an error where one of the two is missing; what is the driver's word for
// such a string.
func WithHost(what, connString, host string) (string, error) {
	switch holds := strings.Contains(connString, "{host}"); {
	case holds && host == "":
		return "", fmt.Errorf("the %s holds {host}, but no host is set: pass dbscope.Host to Open, or call SwitchHost", what)
	case !holds && host != "":
		return "", fmt.Errorf("the %s has no {host} to stand for host %s", what, host)
	}
	return strings.ReplaceAll(connString, "{host}", host), nil
}
