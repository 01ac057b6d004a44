package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const unreleased = "## Unreleased\n"

// cutChangelog makes what stands under Unreleased the section of the version.
func (r *release) cutChangelog(context.Context) error {
	file := filepath.Join(r.clone, "CHANGELOG.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if r.trial && !hasNews(string(text)) {
		_, _ = fmt.Fprintln(r.out, "skipped: nothing is under Unreleased, as right after a release")
		return nil
	}
	changed, err := cut(string(text), r.version+" - "+r.now.UTC().Format("2006-01-02"))
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(changed), 0o644)
}

func hasNews(changelog string) bool {
	_, after, _ := strings.Cut(changelog, unreleased)
	news, _, _ := strings.Cut(after, "\n## ")
	return strings.Contains(news, "\n- ")
}

func cut(changelog, section string) (string, error) {
	before, after, found := strings.Cut(changelog, unreleased)
	if !found {
		return "", errors.New("CHANGELOG.md has no section Unreleased")
	}
	if !hasNews(changelog) {
		return "", errors.New("CHANGELOG.md has nothing under Unreleased: say what users can notice")
	}
	return before + unreleased + "\n## " + section + "\n" + after, nil
}
