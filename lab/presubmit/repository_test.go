package presubmit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// repositoryRoot is the folder of this module's go.mod.
func repositoryRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above this test")
		}
		dir = filepath.Dir(dir)
	}
}

// TestRepository holds this repository to the rules.
func TestRepository(t *testing.T) {
	root := repositoryRoot(t)
	for name, rule := range rules() {
		t.Run(name, func(t *testing.T) {
			report, err := rule(root)
			if err != nil {
				t.Fatal(err)
			}
			if err := report.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRepositoryReadme(t *testing.T) {
	root := repositoryRoot(t)
	if !hasProgram(root) {
		t.Skip("there is no program yet that a README could describe")
	}
	report, err := Readme(root, helpOfProgram(t, root))
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		t.Error(err)
	}
}

// helpOfProgram builds pharos and asks it for help, once for each command.
func helpOfProgram(t *testing.T, root string) Help {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "pharos")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/pharos")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build pharos: %v\n%s", err, out)
	}
	asked := map[string]string{}
	return func(words ...string) (string, error) {
		key := fmt.Sprint(words)
		if text, ok := asked[key]; ok {
			return text, nil
		}
		out, err := exec.CommandContext(t.Context(), binary, append(words, "--help")...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return "", err
		}
		if err != nil {
			return "", fmt.Errorf("pharos %v --help: %w: %s", words, err, out)
		}
		asked[key] = string(out)
		return string(out), nil
	}
}
