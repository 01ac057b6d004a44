//go:build unix

package browser_test

import (
	"archive/zip"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dbscope/dbscope/internal/child"
)

// block is one of code in a page, and the sentence that tells what to do with it.
type block struct{ Language, Code, Before string }

const blocks = `[...document.querySelectorAll('.vp-doc div[class*="language-"]')].map((e) => ({
	Language: e.querySelector(".lang").innerText,
	Code: e.querySelector("code").textContent + "\n",
	Before: e.previousElementSibling.innerText,
}))`

var (
	intoFile = regexp.MustCompile(`into\s(\S+\.go)`)
	andRun   = regexp.MustCompile(`and run (go \w+)`)
)

// A person who has nothing but the site, and types what it says in the order in which it does.
func TestGettingStartedLeadsToARunningProgram(t *testing.T) {
	p := openSite(t)
	p.click(`.VPSidebar a[href="/getting-started.html"]`)
	p.checkTitle("Getting started")
	user := newUser(t)
	calls := ""
	for _, b := range eval[[]block](p, blocks) {
		switch file := intoFile.FindStringSubmatch(b.Before); {
		case file != nil:
			user.write(file[1], b.Code)
			if command := andRun.FindStringSubmatch(b.Before); command != nil {
				user.run(command[1])
			}
		case b.Language != "sh":
		case strings.HasPrefix(b.Code, "curl"):
			calls = b.Code
			for _, want := range []string{"201 Created 1 orders", "201 Created 2 orders", "409 Conflict tea: sold out 2 orders"} {
				got := user.run(b.Code)
				for _, part := range regexp.MustCompile(`\d+ \w+|tea.*out`).FindAllString(want, -1) {
					if !strings.Contains(got, part) {
						t.Errorf("want %s, got %s", want, got)
					}
				}
			}
		default:
			for line := range strings.Lines(b.Code) {
				user.run(line)
			}
		}
	}
	if calls == "" || !user.has("main_test.go") {
		t.Error("the page has no calls or no test")
	}
}

// user is a person with an empty folder.
type user struct {
	t    *testing.T
	dir  string
	env  []string
	port string // that the program has instead of 8080, which may be taken here
}

// newUser makes the library available as it will be once it is published: by a proxy.
func newUser(t *testing.T) *user {
	t.Helper()
	home := t.TempDir()
	port, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, dir: filepath.Join(home, "shop"), port: strconv.Itoa(port)}
	if err := os.Mkdir(u.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	u.publish(filepath.Join(home, "proxy"))
	cache, proxies := u.run("go env GOMODCACHE"), u.run("go env GOPROXY")
	u.env = []string{
		"GOWORK=off",
		"GOFLAGS=-modcacherw -trimpath", // what is built does not depend on the folder, and is built once
		"GOMODCACHE=" + filepath.Join(home, "modules"),
		"GOPROXY=file://" + filepath.Join(home, "proxy") + ",file://" + filepath.Join(strings.TrimSpace(cache), "cache", "download") + "," + strings.TrimSpace(proxies),
		"GONOSUMDB=github.com/dbscope/dbscope", // sum.golang.org does not know this version
	}
	return u
}

func (u *user) write(file, text string) {
	u.t.Helper()
	if err := os.WriteFile(filepath.Join(u.dir, file), []byte(u.local(text)), 0o644); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) has(file string) bool {
	_, err := os.Stat(filepath.Join(u.dir, file))
	return err == nil
}

func (u *user) local(text string) string {
	return strings.ReplaceAll(text, "127.0.0.1:8080", "127.0.0.1:"+u.port)
}

// run types a command, and returns what it prints. A program that serves goes on.
func (u *user) run(command string) string {
	u.t.Helper()
	cmd := exec.Command("sh", "-e", "-c", u.local(command))
	cmd.Dir = u.dir
	cmd.Env = append(os.Environ(), u.env...)
	if strings.TrimSpace(command) == "go run ." {
		u.serve(cmd)
		return ""
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		u.t.Fatalf("%s: %v\n%s%s", command, err, out, errs.String())
	}
	return string(out)
}

// serve starts a program, waits until it can be called, and ends it after the test.
func (u *user) serve(cmd *exec.Cmd) {
	u.t.Helper()
	var logs strings.Builder
	cmd.Stdout, cmd.Stderr = &logs, &logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what matters is whether it can be called
		close(ended)
	}()
	u.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the program, too, which go run has started
		<-ended
		if u.t.Failed() {
			u.t.Log(logs.String())
		}
	})
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+u.port)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			u.t.Fatal("the program has ended")
		default:
		}
		if time.Now().After(deadline) {
			u.t.Fatalf("the program does not serve: %v", err)
		}
	}
}

// publish puts the root module, as it is in the working tree, into a proxy in a folder.
func (u *user) publish(proxy string) {
	u.t.Helper()
	const module, version = "github.com/dbscope/dbscope", "v0.0.1"
	dir := filepath.Join(proxy, module, "@v")
	mod, err := os.ReadFile("../../go.mod")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	for name, text := range map[string]string{
		"list": version, version + ".info": `{"Version": "` + version + `", "Time": "2026-01-01T00:00:00Z"}`, version + ".mod": string(mod),
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	if err == nil {
		err = pack(filepath.Join(dir, version+".zip"), module+"@"+version+"/")
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

// pack writes the Go files of the root module, and what it needs to be one, into an archive.
func pack(archive, prefix string) (err error) {
	list := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.go", "go.mod", "LICENSE")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		return err
	}
	file, err := os.Create(archive)
	if err != nil {
		return err
	}
	w := zip.NewWriter(file)
	for name := range strings.FieldsSeq(string(out)) {
		if nested(filepath.Dir(name)) {
			continue
		}
		source, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, os.ErrNotExist) { // deleted, and not committed
			continue
		}
		entry, entryErr := w.Create(prefix + name)
		if err := errors.Join(err, entryErr); err != nil {
			return err
		}
		if _, err := entry.Write(source); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), file.Close())
}

// nested reports whether a folder belongs to another module than the root.
func nested(folder string) bool {
	if folder == "." {
		return false
	}
	_, err := os.Stat(filepath.Join("../..", folder, "go.mod"))
	return err == nil || nested(filepath.Dir(folder))
}
