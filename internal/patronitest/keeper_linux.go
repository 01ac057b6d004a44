package patronitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dbscope/dbscope/internal/child"
	"github.com/dbscope/dbscope/internal/pgtest"
)

const supported = true

// A keeper is this same executable. It never gets to main, nor to the tests.
func init() {
	if dir := os.Getenv(keeperVariable); dir != "" {
		if err := keep(dir); err != nil {
			fmt.Fprintln(os.Stderr, "patronitest: keeper:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// keeperAttributes takes the keeper out of the terminal's process group, whose
// Ctrl-C is the client's alone to answer.
func keeperAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// keep starts what is asked for on standard input, up to its end. It runs on
// the main thread, as all of init does: the children are signalled when the
// thread that started them ends, which is when the keeper does.
func keep(dir string) error {
	const prSetChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("cannot adopt processes: %w", errno)
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)

	requests := make(chan program)
	go func() {
		defer close(requests)
		for in := json.NewDecoder(os.Stdin); ; {
			var p program
			if in.Decode(&p) != nil { // end-of-file
				return
			}
			requests <- p
		}
	}()
	out := json.NewEncoder(os.Stdout)
	for {
		select {
		case p, ok := <-requests:
			if !ok {
				return endAll(dir)
			}
			var answer started
			var err error
			if answer.PID, err = p.fork(); err != nil {
				answer.Error = err.Error()
			}
			_ = out.Encode(answer) // a client that is gone is seen by the end of its requests
		case <-children:
			for reap() {
			}
		case <-ends:
			return endAll(dir)
		}
	}
}

func (p program) fork() (int, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer func() { _ = null.Close() }()
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if p.As {
		attr.Credential = &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID)}
	}
	return syscall.ForkExec(p.Path, append([]string{p.Path}, p.Args...), &syscall.ProcAttr{
		Dir:   p.Dir,
		Env:   p.Env,
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   attr,
	})
}

// reap waits for one child that has ended, if there is one.
func reap() bool {
	pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	return pid > 0 && err == nil
}

// endAll kills the children, then theirs, which become the keeper's own, until
// there are none.
func endAll(dir string) error {
	deadline := time.Now().Add(stopTimeout)
	for {
		_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.ECHILD) {
			break
		}
		for _, pid := range childrenOf(os.Getpid()) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // an error means that it has ended
		}
		if time.Now().After(deadline) {
			return errors.New("processes of the cluster survive SIGKILL")
		}
		time.Sleep(time.Millisecond)
		for reap() {
		}
	}
	return removeFiles(dir)
}

func childrenOf(parent int) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may hold anything; state and parent follow it.
		fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) && fields[0] != "Z" {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// removeFiles deletes the directory of a cluster that does not run, and what its
// servers left in the kernel.
func removeFiles(dir string) error {
	pidFiles, _ := filepath.Glob(filepath.Join(dir, "*", "data", "postmaster.pid")) // the pattern is valid
	for _, file := range pidFiles {
		pgtest.RemoveSharedMemory(file)
	}
	return os.RemoveAll(dir)
}

// removeAbandoned ends and deletes what the death of both a client and its
// keeper has left.
func removeAbandoned() {
	child.RemoveAbandoned(directoryPrefix, func(dir string) {
		if signalWithin(dir, syscall.SIGKILL) == nil {
			_ = removeFiles(dir) // another user's is not ours to remove
		}
	})
}

// signalWithin signals all processes that run in a directory or below it,
// whether or not their parents still live, and waits until they have ended or
// stopped, where the signal does that.
func signalWithin(dir string, sig syscall.Signal) error {
	for deadline := time.Now().Add(stopTimeout); ; time.Sleep(time.Millisecond) {
		rest := 0
		for _, pid := range child.Within(dir) {
			if sig == syscall.SIGSTOP && stopped(pid) || sig == syscall.SIGCONT && !stopped(pid) {
				continue
			}
			_ = syscall.Kill(pid, sig) // an error means that it has ended
			rest++
		}
		if rest == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("patronitest: %d processes in %s do not obey %v", rest, dir, sig)
		}
	}
}

func stopped(pid int) bool {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(content[strings.LastIndexByte(string(content), ')'):]), " ")
	return strings.HasPrefix(rest, "T")
}

func freezeWithin(dir string) error { return signalWithin(dir, syscall.SIGSTOP) }

func thawWithin(dir string) error { return signalWithin(dir, syscall.SIGCONT) }

func killWithin(dir string) error { return signalWithin(dir, syscall.SIGKILL) }

// killProcess returns when the process is gone.
func killProcess(pid int) error {
	for deadline := time.Now().Add(stopTimeout); ; time.Sleep(time.Millisecond) {
		if errors.Is(syscall.Kill(pid, syscall.SIGKILL), syscall.ESRCH) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("patronitest: process %d survives SIGKILL", pid)
		}
	}
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
