package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	isc = "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, " +
		"provided that the above copyright notice and this permission notice appear in all copies.\n\n" +
		"THE SOFTWARE IS PROVIDED \"AS IS\" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED " +
		"WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR " +
		"CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, " +
		"NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.\n"
	gpl = "This program is free software; you can redistribute it and/or modify it under the terms of the GNU General Public License " +
		"as published by the Free Software Foundation; either version 2 of the License, or (at your option) any later version.\n"
)

func TestALicenceThatIsNotAllowedOrNotKnownIsRefused(t *testing.T) {
	for _, c := range []struct{ file, text, licence, err string }{
		{"LICENSE", isc, "ISC", ""},
		{"licence.txt", isc, "ISC", ""},
		{"LICENSE", gpl, "", "LICENSE has the licence GPL-2.0"},
		{"LICENSE", "Do what you think is right.", "", "no licence was found"},
		{"README", isc, "", "no licence was found"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		switch got, err := licence(dir); {
		case err == nil && got != c.licence:
			t.Errorf("of %s it is %q", c.file, got)
		case (err != nil) != (c.err != ""), err != nil && !strings.Contains(err.Error(), c.err):
			t.Errorf("of %s the error is %v", c.file, err)
		}
	}
}

func TestTheListNamesEachModuleOfOthersWithWhatNeedsIt(t *testing.T) {
	list := table(
		map[string]string{"example.com/b": "MIT", "example.com/a": "ISC"},
		map[string][]string{"example.com/b": {"other", "nested"}, "example.com/a": {"nested"}})
	if !strings.HasSuffix(list, "|---|---|---|\n| example.com/a | ISC | nested |\n| example.com/b | MIT | nested, other |\n") {
		t.Errorf("the list is\n%s", list)
	}
}
