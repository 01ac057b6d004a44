package pgtest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a running postgres with its children.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the main process is reaped
	held *os.File      // reads end-of-file once no process of the server is left
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	// The write end of the pipe goes to postgres, which hands it down to every
	// process that it forks.
	held, holder, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{holder}
	p := &process{cmd: cmd, done: make(chan struct{}), held: held}
	started := make(chan error)
	go func() {
		// The kernel signals the child when the thread that forked it ends, so
		// that thread is kept for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = holder.Close()
		started <- err
		if err == nil {
			_ = cmd.Wait() // cmd.ProcessState says how it ended
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		_ = held.Close()
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// end sends the signal to the main process, something sharper where that does
// not help, and waits until it is reaped and its children are gone. data is the
// server's data directory.
func (p *process) end(sig syscall.Signal, data string) error {
	for _, sig := range []syscall.Signal{sig, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = p.cmd.Process.Signal(sig) // an error means that it has ended
		select {
		case <-p.done:
			if p.waitGone(time.Second) == nil {
				return nil
			}
			// The children of a killed server leave by themselves, save for one
			// that is busy computing.
			killWithin(data)
			return p.waitGone(stopTimeout)
		case <-time.After(stopTimeout):
		}
	}
	return fmt.Errorf("pgtest: postgres (process %d) survives SIGKILL", p.pid())
}

// waitGone waits until no process of the server is left.
func (p *process) waitGone(timeout time.Duration) error {
	if err := p.held.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := p.held.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("pgtest: children of postgres (process %d) are still running: %w", p.pid(), err)
	}
	return p.held.Close()
}
