package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// vulnerabilities runs govulncheck on each module that is tagged. Where its database cannot be
// reached it says so, and finds nothing.
func (r *release) vulnerabilities(ctx context.Context) (err error) {
	if r.clone, err = filepath.Abs(r.repo); err != nil {
		return err
	}
	if err := r.findModules(); err != nil {
		return err
	}
	database := os.Getenv("GOVULNDB")
	if database == "" {
		database = "https://vuln.go.dev"
	}
	if why := unreachable(ctx, database); why != nil {
		_, _ = fmt.Fprintf(r.out, "skipped: the database of vulnerabilities cannot be reached: %v\n", why)
		return nil
	}
	for _, m := range r.modules {
		out, failed := run(ctx, filepath.Join(r.clone, m.dir), []string{"GOWORK=off"}, filepath.Join(r.bin, "govulncheck"), "-db", database, "./...")
		_, _ = fmt.Fprintf(r.out, "== %s\n%s\n", m.path, out)
		err = errors.Join(err, failed)
	}
	return err
}

// unreachable returns why the database does not answer.
func unreachable(ctx context.Context, database string) error {
	if strings.HasPrefix(database, "file://") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, database+"/index/db.json", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", database, resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}
