package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// check clones the repository, finds its modules, and refuses what must not be released.
func (r *release) check(ctx context.Context) error {
	changes, err := r.git(ctx, r.repo, "status", "--porcelain")
	if err != nil {
		return err
	}
	switch {
	case changes != "" && r.version == "" && !r.keep:
		_, _ = fmt.Fprintln(r.out, "The last commit is tried, without what is not committed.")
	case changes != "":
		return fmt.Errorf("the tree has changes that are not committed:\n%s", changes)
	}
	if _, err := r.git(ctx, r.scratch, "clone", "--quiet", r.repo, r.clone); err != nil {
		return err
	}
	if err := r.identify(ctx); err != nil {
		return err
	}
	if err := r.findModules(); err != nil {
		return err
	}
	return errors.Join(r.checkVersion(ctx), r.checkLicences())
}

// identify tells the clone, which has no configuration of its own, who commits. In a dry run,
// as on a machine of CI, that may be nobody.
func (r *release) identify(ctx context.Context) error {
	for _, key := range []string{"user.name", "user.email"} {
		value, err := r.git(ctx, r.repo, "config", key)
		switch {
		case err != nil && r.keep:
			return fmt.Errorf("git does not know the %s of who commits: %w", key, err)
		case err != nil:
			value = "nobody"
		}
		if _, err := r.git(ctx, r.clone, "config", key, value); err != nil {
			return err
		}
	}
	return nil
}

// checkVersion finds the last release. The version must be a later one; where none is given the
// next minor one is tried.
func (r *release) checkVersion(ctx context.Context) error {
	tags, err := r.git(ctx, r.clone, "tag", "--list", "v*")
	if err != nil {
		return err
	}
	for tag := range strings.FieldsSeq(tags) {
		if semver.IsValid(tag) && semver.Compare(tag, r.last) > 0 {
			r.last = tag
		}
	}
	if r.version == "" && !r.keep {
		r.version, r.trial = next(r.last), true
		return nil
	}
	if semver.Canonical(r.version) != r.version || r.version == "" {
		return fmt.Errorf("%q is no version, such as v0.1.0", r.version)
	}
	if major := semver.Major(r.version); major != "v0" && major != "v1" {
		return fmt.Errorf("the modules' paths would have to end in /%s for %s", major, r.version)
	}
	if r.last != "" && semver.Compare(r.version, r.last) <= 0 {
		return fmt.Errorf("%s is not later than %s, the last release", r.version, r.last)
	}
	return nil
}

// next returns the minor version after the last release.
func next(last string) string {
	if last == "" {
		return "v0.1.0"
	}
	major, minor, _ := strings.Cut(semver.MajorMinor(last), ".")
	n, _ := strconv.Atoi(minor) // semver has seen that it is a number
	return fmt.Sprintf("%s.%d.0", major, n+1)
}

// checkLicences refuses a module without a file LICENSE: pkg.go.dev shows no documentation then.
func (r *release) checkLicences() (err error) {
	for _, m := range r.modules {
		if _, missing := os.Stat(filepath.Join(r.clone, m.dir, "LICENSE")); missing != nil {
			err = errors.Join(err, fmt.Errorf("%s has no LICENSE", m.path))
		}
	}
	return err
}
