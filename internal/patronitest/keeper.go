package patronitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// keeperVariable makes a process that has this package a keeper: it holds the
// cluster's directory.
const keeperVariable = "DBSCOPE_PATRONITEST_KEEPER"

const stopTimeout = 15 * time.Second

// program is what a keeper is asked to start.
type program struct {
	Path string
	Args []string
	Env  []string
	Dir  string
	Log  string

	// The user to run as, where As is set.
	As       bool
	UID, GID int
}

// started is what the keeper answers.
type started struct {
	PID   int
	Error string
}

// keeper is a process between this one and those of the cluster, and its client.
//
// Patroni leaves its PostgreSQL to be adopted by process 1, so that neither can
// the test wait for it nor would the kernel end it with the test. The keeper
// adopts it instead. It ends every process below it, stopped ones too, and
// removes the directory, when the client goes away, however that happens.
type keeper struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu       sync.Mutex
	requests io.Closer
	answers  io.Closer
	out      *json.Encoder
	in       *json.Decoder
}

func startKeeper(dir string) (*keeper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	k := &keeper{cmd: exec.Command(self), done: make(chan struct{})}
	k.cmd.Env = append(os.Environ(), keeperVariable+"="+dir)
	k.cmd.Stderr = os.Stderr
	k.cmd.SysProcAttr = keeperAttributes()
	requests, err := k.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := k.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := k.cmd.Start(); err != nil {
		return nil, fmt.Errorf("patronitest: starting the keeper: %w", err)
	}
	k.requests, k.out = requests, json.NewEncoder(requests)
	k.answers, k.in = answers, json.NewDecoder(answers)
	go func() {
		defer close(k.done)
		_, _ = k.cmd.Process.Wait() // not cmd.Wait, which closes the pipe that start may be reading
	}()
	return k, nil
}

// start returns the id of the new process.
func (k *keeper) start(p program) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.out.Encode(p); err != nil {
		return 0, fmt.Errorf("patronitest: the keeper is gone: %w", err)
	}
	var answer started
	if err := k.in.Decode(&answer); err != nil {
		return 0, fmt.Errorf("patronitest: the keeper does not answer: %w", err)
	}
	if answer.Error != "" {
		return 0, fmt.Errorf("patronitest: starting %s: %s", p.Path, answer.Error)
	}
	return answer.PID, nil
}

// close ends everything. It blocks until that is done.
func (k *keeper) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.requests.Close()
	defer func() { _ = k.answers.Close() }()
	select {
	case <-k.done:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(errors.New("patronitest: the keeper does not end"), k.cmd.Process.Kill())
	}
}
