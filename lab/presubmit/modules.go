package presubmit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// pinned are the modules whose version is a decision (DESIGN.md, "Decisions"):
// newer ones do not build together, or need what GoBGP v3 is kept from.
func pinned() map[string]string {
	return map[string]string{
		"github.com/osrg/gobgp/v3":            "v3.37.0",
		"github.com/hashicorp/raft":           "v1.7.3",
		"github.com/hashicorp/raft-boltdb/v2": "v2.3.1",
		"github.com/hashicorp/memberlist":     "v0.6.0",
	}
}

// Modules wants go.mod to name this module, to replace nothing, to have the
// pinned versions, and to have every requirement's hash in go.sum.
func Modules(root string) (Report, error) {
	var r Report
	cmd := exec.Command("go", "mod", "edit", "-json", filepath.Join(root, "go.mod"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("read go.mod: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var mod struct {
		Module  struct{ Path string }
		Require []struct{ Path, Version string }
		Replace []struct{ Old struct{ Path string } }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		return r, fmt.Errorf("read go.mod: %w", err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return r, err
	}
	if mod.Module.Path != module {
		r.fault("go.mod: the module is %q, want %q", mod.Module.Path, module)
	}
	for _, replaced := range mod.Replace {
		r.fault("go.mod: replaces %s: a clone elsewhere must build the same", replaced.Old.Path)
	}
	versions := map[string]string{}
	for _, required := range mod.Require {
		r.Checked++
		versions[required.Path] = required.Version
		if !bytes.Contains(sums, []byte(required.Path+" "+required.Version+"/go.mod h1:")) {
			r.fault("go.sum: has no hash of %s %s", required.Path, required.Version)
		}
	}
	for name, want := range pinned() {
		if got := versions[name]; got != want {
			r.fault("go.mod: %s is at %q, and is pinned at %s", name, strings.TrimSpace(got), want)
		}
	}
	return r, nil
}
