package child

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// MissingError says that something is not installed. It is not the error of a
// program that is there and of no use, which an installation would not mend.
type MissingError struct {
	Name     string // for people, such as "PostgreSQL"
	Key      string // by which the script of make setup knows it
	Variable string // by which a user may say where it is; may be empty
}

// Error says what to do.
func (e *MissingError) Error() string {
	text := "no " + e.Name + " found: make setup installs it"
	if e.Variable != "" {
		text += ", or " + e.Variable + " says where it is"
	}
	return text
}

// Folder returns the folder that an environment variable names, or nothing where
// the variable is not set. Folders that are no use are an error.
func Folder(variable string) (string, error) {
	dir := os.Getenv(variable)
	if dir == "" {
		return "", nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("%s: %w", variable, err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is %s, which is not a folder", variable, dir)
	}
	if err := usable(variable, dir, dir); err != nil {
		return "", err
	}
	return filepath.Clean(dir), nil
}

// Program finds an executable: the one that the variable of missing names, where
// that is set, else the one on PATH, else the one in the first of the folders
// that has it. An error that it is in none of them is missing.
func Program(missing *MissingError, name string, folders ...string) (string, error) {
	if path := os.Getenv(missing.Variable); path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("%s is %s, which is not a program: it has to be %s itself", missing.Variable, path, name)
		}
		return found, usable(missing.Variable, path, filepath.Dir(path))
	}
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	if dir, ok := FolderWith(name, folders...); ok {
		return filepath.Join(dir, name), nil
	}
	return "", missing
}

// FolderWith returns the first of the folders that has the program.
func FolderWith(name string, folders ...string) (string, bool) {
	for _, dir := range folders {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return dir, true
		}
	}
	return "", false
}

// usable refuses what would otherwise fail later, with an error that does not
// name the variable.
func usable(variable, path, dir string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is %s: it has to be an absolute path, since each package's tests run in a folder of their own", variable, path)
	}
	if os.Geteuid() == 0 && !traversable(dir) {
		return fmt.Errorf("%s is %s, where only root may look: servers do not run as root", variable, path)
	}
	return nil
}
