package report

import (
	"bufio"
	"os"
	"runtime"
	"strings"
)

// Machine says where the program runs.
func Machine() Run {
	return Run{Processor: processor(), System: system(), Go: "Go " + strings.TrimPrefix(runtime.Version(), "go"), Cores: runtime.NumCPU()}
}

// processor is the name that Linux has for it, where that can be had.
func processor() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer func() { _ = file.Close() }() // was only read
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if key, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func system() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	version, _, _ := strings.Cut(string(release), "-")
	return "Linux " + strings.TrimSpace(version)
}
