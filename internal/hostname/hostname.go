// Package hostname tells hosts from other texts. A host may come from outside,
// as from a service that knows where the database is, and is pasted into
// connection strings, where a space, a slash or a question mark would begin
// something else: another port, user or database.
package hostname

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// longest is the longest text that is taken for a host: a few names of 253 bytes,
// which is the most that DNS has.
const longest = 1024

// Check returns an error where the text is not what may stand for a host: a name
// or an address, with a port or without, several of them with commas between, or
// the path of a socket. An IPv6 address with a port is in brackets. The error
// does not repeat the text, which may be a whole connection string by mistake.
func Check(host string) error {
	switch {
	case host == "":
		return errors.New("it is empty")
	case len(host) > longest:
		return fmt.Errorf("it is %d bytes long", len(host))
	case IsPath(host):
		return only(host, "/._-")
	}
	for one := range strings.SplitSeq(host, ",") {
		if err := checkOne(one); err != nil {
			return err
		}
	}
	return nil
}

// IsPath reports whether the host is the path of a socket.
func IsPath(host string) bool { return strings.HasPrefix(host, "/") }

func checkOne(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		return only(a.Zone(), "._-") // an address may have any zone
	}
	if inside, bracketed := strings.CutPrefix(host, "["); bracketed {
		address, rest, closed := strings.Cut(inside, "]")
		a, err := netip.ParseAddr(address)
		if err != nil || !a.Is6() || !closed || only(a.Zone(), "._-") != nil {
			return errors.New("what is in brackets is no IPv6 address")
		}
		return checkPort(rest)
	}
	if err := only(host, ".-_:"); err != nil {
		return err
	}
	name, _, _ := strings.Cut(host, ":")
	if strings.Contains("."+strings.TrimSuffix(name, ".")+".", "..") {
		return errors.New("its name, or a part of that, is empty")
	}
	return checkPort(host[len(name):])
}

// checkPort looks at what follows a name or an address.
func checkPort(rest string) error {
	port, has := strings.CutPrefix(rest, ":")
	if n, err := strconv.ParseUint(port, 10, 16); rest != "" && (!has || err != nil || n == 0) {
		return errors.New("what follows its name is no port")
	}
	return nil
}

// only reports a byte that is neither a letter nor a digit nor one of the others.
func only(text, others string) error {
	for i := range len(text) {
		switch b := text[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', strings.IndexByte(others, b) >= 0:
		default:
			return fmt.Errorf("it holds the byte %q", string(rune(b)))
		}
	}
	return nil
}
