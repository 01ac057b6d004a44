package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/dbscope/dbscope/bench/service/subject"
)

// process is the service with one subject.
type process struct {
	at    addresses
	cmd   *exec.Cmd
	stdin io.Closer
}

// startService runs this program, or an earlier one, as the service.
func startService(earlier string, config subject.Config) (*process, error) {
	program, err := os.Executable()
	if name, old := strings.CutSuffix(config.Name, Before); old {
		config.Name, program = name, earlier
	}
	if err != nil {
		return nil, err
	}
	asked, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), serveVariable+"="+string(asked))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: stdin}
	if err := json.NewDecoder(stdout).Decode(&p.at); err != nil {
		return nil, fmt.Errorf("stage: the service of %s does not start: %w", config.Name, errors.Join(err, p.stop()))
	}
	return p, nil
}

func (p *process) stop() error { return errors.Join(p.stdin.Close(), p.cmd.Wait()) }

func (p *process) usage() (u usage, err error) {
	body, err := p.control(http.MethodGet, "/usage", nil)
	if err != nil {
		return u, err
	}
	return u, json.Unmarshal(body, &u)
}

func (p *process) profile(cpuFile string) error {
	_, err := p.control(http.MethodPost, "/profile", url.Values{"file": {cpuFile}})
	return err
}

func (p *process) endProfile(allocsFile string) error {
	_, err := p.control(http.MethodDelete, "/profile", url.Values{"file": {allocsFile}})
	return err
}

func (p *process) control(method, path string, values url.Values) ([]byte, error) {
	request, err := http.NewRequest(method, "http://"+p.at.Control+path+"?"+values.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("stage: the service answers %s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	return body, errors.Join(err, response.Body.Close())
}
