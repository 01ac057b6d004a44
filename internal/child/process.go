package child

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// StopTimeout is how long a process has to follow a signal.
const StopTimeout = 15 * time.Second

// Process is a running server with its children.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the main process is reaped
	held *os.File      // reads end-of-file once no process of the server is left
}

// Start starts a program as the owner. On Linux the kernel ends it when the
// test binary dies, whatever the reason.
func Start(cmd *exec.Cmd, owner *Owner) (*Process, error) {
	// The write end of the pipe goes to the server, which hands it down to every
	// process that it forks.
	held, holder, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = attributes(owner)
	cmd.ExtraFiles = []*os.File{holder}
	p := &Process{cmd: cmd, done: make(chan struct{}), held: held}
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

// PID is the id of the main process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

func (p *Process) name() string { return filepath.Base(p.cmd.Path) }

// Ready blocks until ready, which it calls now and then, or returns an error
// when the process has ended or the time is over; then it is no more. dir is as
// for End.
func (p *Process) Ready(ready func() bool, timeout time.Duration, dir string) error {
	for deadline := time.Now().Add(timeout); !ready(); {
		select {
		case <-p.done:
			_ = p.waitGone(StopTimeout)
			return fmt.Errorf("%s ended while starting: %s", p.name(), p.cmd.ProcessState)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_ = p.End(syscall.SIGKILL, dir) // the caller fails with what matters more
			return fmt.Errorf("%s does not serve after %v", p.name(), timeout)
		}
	}
	return nil
}

// End sends the signal to the main process, something sharper where that does
// not help, and waits until it is reaped and its children are gone. dir is the
// directory that the server's processes run in.
func (p *Process) End(sig syscall.Signal, dir string) error {
	for _, sig := range []syscall.Signal{sig, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = p.cmd.Process.Signal(sig) // an error means that it has ended
		select {
		case <-p.done:
			if p.waitGone(time.Second) == nil {
				return nil
			}
			// The children of a killed server leave by themselves, save for one
			// that is busy computing.
			killWithin(dir)
			return p.waitGone(StopTimeout)
		case <-time.After(StopTimeout):
		}
	}
	return fmt.Errorf("%s (process %d) survives SIGKILL", p.name(), p.PID())
}

// waitGone waits until no process of the server is left.
func (p *Process) waitGone(timeout time.Duration) error {
	if err := p.held.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := p.held.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("children of %s (process %d) are still running: %w", p.name(), p.PID(), err)
	}
	return p.held.Close()
}
