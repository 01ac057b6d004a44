package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A library with a nested module, a command, and examples that nobody requires.
var library = map[string]string{
	"go.mod":       "module example.com/lib\n\ngo 1.25\n",
	"lib.go":       "// Package lib greets.\npackage lib\n\n// Hello greets.\nfunc Hello() string { return \"hello\" }\n",
	"LICENSE":      "MIT\n",
	licencesFile:   table(nil, nil),
	"CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n### Added\n- Hello, which greets.\n",
	"docs/getting-started.md": "# Start\n\n```go\npackage main\n\nimport \"example.com/lib\"\n\nfunc greet() string { return lib.Hello() }\n\nfunc main() {}\n```\n\n" +
		"```go\npackage main\n\nimport \"testing\"\n\nfunc TestGreet(t *testing.T) {\n\tif greet() != \"hello\" {\n\t\tt.Fail()\n\t}\n}\n```\n",
	"nested/go.mod":          "module example.com/lib/nested\n\ngo 1.25\n\nrequire example.com/lib v0.0.0\n\nreplace example.com/lib => ../\n",
	"nested/nested.go":       "package nested\n\nimport \"example.com/lib\"\n\nvar Greeting = lib.Hello()\n",
	"nested/LICENSE":         "MIT\n",
	"nested/cmd/say/main.go": "package main\n\nimport \"example.com/lib/nested\"\n\nfunc main() { println(nested.Greeting) }\n",
	"examples/go.mod": "module example.com/lib/examples\n\ngo 1.25\n\nrequire (\n\texample.com/lib v0.0.0\n\texample.com/lib/nested v0.0.0\n)\n\n" +
		"replace example.com/lib => ../\n\nreplace example.com/lib/nested => ../nested\n",
	"examples/main.go": "package main\n\nimport (\n\t\"example.com/lib\"\n\t\"example.com/lib/nested\"\n)\n\nfunc main() { println(lib.Hello(), nested.Greeting) }\n",
}

// repository makes one with the library in it, but for the files that change says.
func repository(t *testing.T, change map[string]string) string {
	t.Helper()
	t.Setenv("GOPROXY", "off")
	dir := t.TempDir()
	git(t, dir, "init", "--quiet", "--initial-branch=main")
	git(t, dir, "config", "user.name", "Tester")
	git(t, dir, "config", "user.email", "tester@example.com")
	write(t, dir, library)
	write(t, dir, change)
	git(t, dir, "add", "--all")
	git(t, dir, "commit", "--quiet", "--message", "A library")
	return dir
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if text == "" {
			_ = os.Remove(file)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func releaseOf(t *testing.T, repo, version string, keep bool) (string, error) {
	t.Helper()
	var out bytes.Buffer
	r := &release{version: version, repo: repo, keep: keep, now: time.Date(2026, 12, 24, 12, 0, 0, 0, time.UTC), out: &out}
	err := r.run(t.Context())
	return out.String(), err
}

func TestAReleaseTagsEachModuleWithoutAReplaceAndGoesOnWithIt(t *testing.T) {
	repo := repository(t, nil)
	out, err := releaseOf(t, repo, "v0.1.0", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file  string
		at    string
		has   string
		lacks string
	}{
		{"CHANGELOG.md", "v0.1.0", "## Unreleased\n\n## v0.1.0 - 2026-12-24\n\n### Added\n- Hello", ""},
		{"nested/go.mod", "nested/v0.1.0", "require example.com/lib v0.1.0", "replace"},
		{"nested/go.sum", "nested/v0.1.0", "example.com/lib v0.1.0 h1:", ""},
		{"nested/go.mod", "main", "require example.com/lib v0.1.0\n\nreplace example.com/lib => ../", "v0.0.0"},
		{"examples/go.mod", "main", "example.com/lib/nested v0.1.0", "v0.0.0"},
		{"examples/go.mod", "v0.1.0", "replace example.com/lib => ../", ""},
	} {
		text := git(t, repo, "show", c.at+":"+c.file)
		if !strings.Contains(text, c.has) || c.lacks != "" && strings.Contains(text, c.lacks) {
			t.Errorf("%s of %s is\n%s", c.file, c.at, text)
		}
	}
	if tags := git(t, repo, "tag", "--list"); tags != "nested/v0.1.0\nv0.1.0" {
		t.Errorf("the tags are %s", tags)
	}
	if commits := git(t, repo, "log", "--format=%s"); !strings.HasPrefix(commits, "After v0.1.0: ") || !strings.Contains(commits, "\nRelease v0.1.0\n") {
		t.Errorf("the commits are %s", commits)
	}
	if changes := git(t, repo, "status", "--porcelain"); changes != "" {
		t.Errorf("these files have changed: %s", changes)
	}
	for _, said := range []string{
		"the program of docs/getting-started.md builds, and its test passes", "example.com/lib/nested builds and runs",
		"example.com/lib/nested/cmd/say installs", "git push --atomic origin main v0.1.0 nested/v0.1.0",
	} {
		if !strings.Contains(out, said) {
			t.Errorf("it does not say %q, but\n%s", said, out)
		}
	}
}

func TestTheNextReleaseIsMadeOfTheLast(t *testing.T) {
	repo := repository(t, nil)
	if _, err := releaseOf(t, repo, "v0.1.0", true); err != nil {
		t.Fatal(err)
	}
	changelog := strings.Replace(git(t, repo, "show", "main:CHANGELOG.md"), "## Unreleased\n", "## Unreleased\n\n### Fixed\n- Hello is heard.\n", 1)
	write(t, repo, map[string]string{"CHANGELOG.md": changelog})
	git(t, repo, "commit", "--all", "--quiet", "--message", "More")
	if _, err := releaseOf(t, repo, "v0.1.0", true); err == nil || !strings.Contains(err.Error(), "not later than v0.1.0") {
		t.Errorf("the same version again: %v", err)
	}
	if _, err := releaseOf(t, repo, "v0.2.0", true); err != nil {
		t.Fatal(err)
	}
	if mod := git(t, repo, "show", "nested/v0.2.0:nested/go.mod"); !strings.Contains(mod, "require example.com/lib v0.2.0") {
		t.Errorf("nested/go.mod is\n%s", mod)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	repo := repository(t, nil)
	before := git(t, repo, "rev-parse", "HEAD")
	out, err := releaseOf(t, repo, "v0.1.0", false)
	if err != nil {
		t.Fatal(err)
	}
	if after := git(t, repo, "rev-parse", "HEAD"); after != before || git(t, repo, "tag", "--list") != "" {
		t.Errorf("the repository has changed:\n%s", git(t, repo, "log", "--oneline", "--decorate"))
	}
	if !strings.Contains(out, "dry run") {
		t.Errorf("it says\n%s", out)
	}
}

func TestADryRunWithoutAVersionTriesTheNextAlsoRightAfterARelease(t *testing.T) {
	repo := repository(t, nil)
	for _, version := range []string{"v0.1.0", "v0.2.0"} {
		out, err := releaseOf(t, repo, "", false)
		if err != nil || !strings.Contains(out, "nested/"+version+"\n") {
			t.Fatalf("%s: it says\n%s\n%v", version, out, err)
		}
		if version == "v0.1.0" {
			if _, err := releaseOf(t, repo, version, true); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestWhatMustNotBeReleasedIsRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		version string
		change  map[string]string
		dirty   map[string]string
		err     string
	}{
		{"no version", "", nil, nil, "is no version"},
		{"a version without its v", "0.1.0", nil, nil, "is no version"},
		{"a version with a part missing", "v0.1", nil, nil, "is no version"},
		{"a major version that the paths do not have", "v2.0.0", nil, nil, "end in /v2"},
		{"changes that are not committed", "v0.1.0", nil, map[string]string{"lib.go": "package lib\n"}, "not committed"},
		{"files that are not committed", "v0.1.0", nil, map[string]string{"new.go": "package lib\n"}, "not committed"},
		{"nothing new", "v0.1.0", map[string]string{"CHANGELOG.md": "# Changelog\n\n## Unreleased\n"}, nil, "nothing under Unreleased"},
		{"no changelog", "v0.1.0", map[string]string{"CHANGELOG.md": "# Changelog\n"}, nil, "no section Unreleased"},
		{"no licence", "v0.1.0", map[string]string{"nested/LICENSE": ""}, nil, "example.com/lib/nested has no LICENSE"},
		{"a module that needs one that is not tagged", "v0.1.0", map[string]string{
			"nested/go.mod": "module example.com/lib/nested\n\ngo 1.25\n\nrequire example.com/lib/examples v0.0.0\n\nreplace example.com/lib/examples => ../examples\n",
		}, nil, "requires a module that is not tagged"},
		{"a list of licences that is old", "v0.1.0", map[string]string{licencesFile: "old\n"}, nil, "make licences"},
		{"a program that does not build", "v0.1.0", map[string]string{"lib.go": "package lib\n"}, nil, "lib.Hello"},
	} {
		t.Run(c.name, func(t *testing.T) {
			repo := repository(t, c.change)
			write(t, repo, c.dirty)
			if _, err := releaseOf(t, repo, c.version, true); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("the error is %v", err)
			}
			if tags := git(t, repo, "tag", "--list"); tags != "" {
				t.Errorf("it has made the tags %s", tags)
			}
		})
	}
}
