package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/semver"
)

// check clones the repository, finds its modules, and refuses what must not be released.
func (r *release) check(ctx context.Context) error {
	if r.version == "" || semver.Canonical(r.version) != r.version {
		return fmt.Errorf("%q is no version, such as v0.1.0", r.version)
	}
	if major := semver.Major(r.version); major != "v0" && major != "v1" {
		return fmt.Errorf("the modules' paths would have to end in /%s for %s", major, r.version)
	}
	changes, err := r.git(ctx, r.repo, "status", "--porcelain")
	if err != nil {
		return err
	}
	if changes != "" {
		return fmt.Errorf("the tree has changes that are not committed:\n%s", changes)
	}
	if _, err := r.git(ctx, r.scratch, "clone", "--quiet", r.repo, r.clone); err != nil {
		return err
	}
	for _, key := range []string{"user.name", "user.email"} { // the clone has no configuration of its own
		value, err := r.git(ctx, r.repo, "config", key)
		if err != nil {
			return fmt.Errorf("git does not know the %s of who commits: %w", key, err)
		}
		if _, err := r.git(ctx, r.clone, "config", key, value); err != nil {
			return err
		}
	}
	if err := r.findModules(); err != nil {
		return err
	}
	return errors.Join(r.checkTags(ctx), r.checkLicences())
}

// checkTags finds the last release, which must be an earlier one.
func (r *release) checkTags(ctx context.Context) error {
	tags, err := r.git(ctx, r.clone, "tag", "--list", "v*")
	if err != nil {
		return err
	}
	for tag := range strings.FieldsSeq(tags) {
		if semver.IsValid(tag) && semver.Compare(tag, r.last) > 0 {
			r.last = tag
		}
	}
	if r.last != "" && semver.Compare(r.version, r.last) <= 0 {
		return fmt.Errorf("%s is not later than %s, the last release", r.version, r.last)
	}
	return nil
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
