// Command release makes a release of all modules of this repository: the root module and those
// nested in it that others require.
//
//	make release VERSION=v0.1.0           # tries it, and changes nothing; so does make release
//	make release VERSION=v0.1.0 DRY=no    # makes the commits and the tags, and pushes nothing
//
// Both do the same in a clone in a scratch folder: a commit in which the changelog has a section
// of the version and the nested modules require it without a replace, its tags, and a commit
// after which development goes on. A file proxy serves what was tagged, and a new user's programs
// are built and run with it, in a module cache of their own. Only then the commits and the tags
// come into the repository, if they are wanted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	version := flag.String("version", "", "the version, such as v0.1.0; without it the next minor one is tried")
	repo := flag.String("repo", ".", "the folder of the repository")
	bin := flag.String("bin", "", "the folder of gorelease, cyclonedx-gomod and govulncheck; without it they are not run")
	licences := flag.Bool("licences", false, "only write "+licencesFile+" anew")
	keep := flag.Bool("keep", false, "bring the commits and the tags into the repository")
	vulnerabilities := flag.Bool("vuln", false, "only run govulncheck")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := &release{version: *version, repo: *repo, bin: *bin, keep: *keep, now: time.Now(), out: os.Stdout}
	do := r.run
	switch {
	case *licences:
		do = r.writeLicences
	case *vulnerabilities:
		do = r.vulnerabilities
	}
	if err := do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		stop()
		os.Exit(1)
	}
}

// release is one of a version.
type release struct {
	version string
	repo    string // the repository that is released
	bin     string
	keep    bool // whether the commits and the tags stay
	now     time.Time
	out     io.Writer

	scratch string    // a folder that is gone afterwards
	clone   string    // of the repository, in it
	last    string    // the version before, or empty
	trial   bool      // no version was given
	modules []*module // those that are tagged, each after those it requires
	others  []*module // those that are not
}

func (r *release) run(ctx context.Context) (err error) {
	if r.repo, err = filepath.Abs(r.repo); err != nil {
		return err
	}
	if r.bin != "" {
		if r.bin, err = filepath.Abs(r.bin); err != nil {
			return err
		}
	}
	if r.scratch, err = os.MkdirTemp("", "release-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.scratch)) }()
	r.clone = filepath.Join(r.scratch, "clone")
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"the repository is as it should be", r.check},
		{"the changelog has a section", r.cutChangelog},
		{"the modules require the version", r.requireVersion},
		{"the release is a commit with tags", r.tag},
		{"development goes on", r.goOn},
		{"what is tagged is checked out", r.checkOut},
		{"the API is compared with the last release", r.compare},
		{"each module has a bill of materials", r.bills},
		{"a new user can build and run it", r.prove},
	} {
		_, _ = fmt.Fprintln(r.out, "==", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if !r.keep {
		_, _ = fmt.Fprintln(r.out, "This was a dry run: nothing has changed. With DRY=no the commits and the tags stay.")
		return nil
	}
	return r.bringBack(ctx)
}

// bringBack brings the commits and the tags into the repository.
func (r *release) bringBack(ctx context.Context) error {
	branch, err := r.git(ctx, r.repo, "symbolic-ref", "--short", "HEAD")
	if err != nil {
		return err
	}
	if _, err := r.git(ctx, r.repo, "pull", "--quiet", "--ff-only", "--tags", r.clone, branch); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(r.out, "To publish it: git push --atomic origin %s", branch)
	for _, m := range r.modules {
		_, _ = fmt.Fprint(r.out, " ", m.tag(r.version))
	}
	_, _ = fmt.Fprintln(r.out)
	return nil
}
