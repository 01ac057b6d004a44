package patronitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dbscope/dbscope/internal/child"
)

const (
	requestTimeout = 2 * time.Second
	poll           = 50 * time.Millisecond
)

func (c *Cluster) etcdDirectory() string { return filepath.Join(c.dir, "etcd") }
func (c *Cluster) etcdLog() string       { return filepath.Join(c.etcdDirectory(), "log") }

// startEtcd blocks until it serves.
func (c *Cluster) startEtcd(ctx context.Context) (err error) {
	if err := makeDirectory(c.etcdDirectory()); err != nil {
		return err
	}
	if c.etcdPort, err = child.FreePort(); err != nil {
		return err
	}
	peers, err := child.FreePort()
	if err != nil {
		return err
	}
	client, peer := "http://"+address(c.etcdPort), "http://"+address(peers)
	c.etcdPID, err = c.exec(c.programs.etcd, []string{
		"--name=etcd", "--data-dir=" + filepath.Join(c.etcdDirectory(), "data"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=etcd=" + peer,
		// It elects itself, and need not wait for others to object.
		"--heartbeat-interval=20", "--election-timeout=200",
		"--enable-v2", // which Patroni uses, see configuration
		"--logger=zap", "--log-level=warn",
	}, c.etcdDirectory(), c.etcdLog())
	if err != nil {
		return err
	}
	return wait(ctx, func() error {
		if !alive(c.etcdPID) {
			return final(errors.New("the etcd has ended"))
		}
		_, err := c.Status(ctx)
		return err
	})
}

// Status is what the nodes have agreed on, and what each has last said of
// itself, which may be some seconds old.
type Status struct {
	Leader  string // the name of the node that is the primary, or shall be; empty: none
	Sync    string // the name of the replica that has all that was committed
	Members []Member

	committed string // the name of the primary that has all, and alone where Sync is empty
}

// Member is a node that has lately been heard of.
type Member struct {
	Name     string `json:"-"`
	Role     string `json:"role"`  // replica; primary, or master with Patroni 3
	State    string `json:"state"` // running, starting, stopped, ...
	Timeline int    `json:"timeline"`
}

// Status asks the etcd, which no fault of a node disturbs.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	const prefix = "/service/" + scope + "/"
	var answer struct{ Node entry }
	url := "http://" + address(c.etcdPort) + "/v2/keys" + prefix + "?recursive=true&quorum=true"
	if err := c.call(ctx, requestTimeout, http.MethodGet, url, nil, &answer); err != nil {
		if errors.Is(err, errNotFound) { // before the first node has come
			err = nil
		}
		return Status{}, err
	}
	var s Status
	for key, value := range answer.Node.leaves() {
		key = strings.TrimPrefix(key, prefix)
		name, isMember := strings.CutPrefix(key, "members/")
		switch {
		case key == "leader":
			s.Leader = value
		case key == "sync":
			var sync struct {
				Leader  string `json:"leader"`
				Standby string `json:"sync_standby"`
			}
			if err := json.Unmarshal([]byte(value), &sync); err != nil {
				return s, fmt.Errorf("patronitest: %s: %w", key, err)
			}
			s.Sync, s.committed = sync.Standby, sync.Leader
		case isMember:
			m := Member{Name: name}
			if err := json.Unmarshal([]byte(value), &m); err != nil {
				return s, fmt.Errorf("patronitest: %s: %w", key, err)
			}
			s.Members = append(s.Members, m)
		}
	}
	slices.SortFunc(s.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

// entry is a key of the etcd, or a directory of keys.
type entry struct {
	Key, Value string
	Nodes      []entry
}

func (e entry) leaves() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) { e.each(yield) }
}

func (e entry) each(yield func(string, string) bool) bool {
	for _, n := range e.Nodes {
		if !n.each(yield) {
			return false
		}
	}
	return len(e.Nodes) > 0 || yield(e.Key, e.Value)
}

var errNotFound = errors.New("not found")

// call sends a request, with a body unless that is nil, and decodes the answer,
// unless that is nil.
func (c *Cluster) call(ctx context.Context, timeout time.Duration, method, url string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var sent io.Reader = http.NoBody
	if body != nil {
		content, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(content)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, sent)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("patronitest: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("patronitest: %w", err)
	}
	if response.StatusCode == http.StatusNotFound {
		return errNotFound
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("patronitest: %s: %s: %s", url, response.Status, content)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(content, answer)
}

// finalError ends a wait.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

func final(err error) error { return finalError{err} }

// wait tries until condition returns nil or a final error. When ctx ends first
// its error, and what was lacking, is what is returned.
func wait(ctx context.Context, condition func() error) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	lacking := errors.New("patronitest: not asked")
	for {
		err := condition()
		var end finalError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &end):
			return fmt.Errorf("patronitest: %w", end.error)
		case ctx.Err() == nil:
			lacking = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), lacking)
		case <-ticker.C:
		}
	}
}
