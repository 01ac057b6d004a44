package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// processorTime is the CPU time that all processes which run in a folder or
// below it have used until now. Linux counts it to the nanosecond, in
// /proc/*/task/*/schedstat.
func processorTime(dir string) (time.Duration, error) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is valid
	var sum time.Duration
	found := false
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil || cwd != dir && !strings.HasPrefix(cwd, dir+"/") {
			continue
		}
		found = true
		tasks, _ := filepath.Glob(filepath.Join(filepath.Dir(link), "task/*/schedstat"))
		for _, task := range tasks {
			used, err := schedstat(task)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have ended
				return 0, err
			}
			sum += used
		}
	}
	if !found {
		return 0, fmt.Errorf("stage: /proc shows no process that runs in %s: the CPU time of the database can be told on Linux only", dir)
	}
	return sum, nil
}

func schedstat(file string) (time.Duration, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(content), " ")
	n, err := strconv.ParseInt(first, 10, 64)
	return time.Duration(n), err
}
