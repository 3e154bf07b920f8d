package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReference(t *testing.T) {
	dir := t.TempDir()
	source := "package x\n" + `
// Config is all.
type Config struct {
	// Pools are sets
	// of servers.
	Pools []Pool ` + "`json:\"pools\"`" + `
}

// Pool is one set.
type Pool struct {
	Weight *int ` + "`json:\"weight\" default:\"1\" range:\"(0..256\" off:\"-1\"` // a | share" + `
	// Mode is how Weight counts.
	Mode Mode ` + "`json:\"mode\" required:\"true\" words:\"a b\" for:\"http\"`" + `
}

const (
	ModeA Mode = "a" // twice
	ModeB Mode = "b"
)

type Unused struct{ X int ` + "`json:\"x\"`" + ` }
`
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Make(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, tables, _ := strings.Cut(string(got), "`make generate`.\n")
	want := `
## Config

Config is all.

| key | meaning | value | default |
|---|---|---|---|
| [pools.](#pool) | Sets of servers. | list |  |

## Pool

Pool is one set.

| key | meaning | value | default |
|---|---|---|---|
| ` + "`weight`" + ` | A \| share | number; above 0 to 256; -1 turns it off | ` + "`1`" + ` |
| ` + "`mode`" + ` | How ` + "`weight`" + ` counts. | a, b; with http | required |

` + "`mode`" + `:

- ` + "`a`" + `: twice
- ` + "`b`" + `
`
	if diff := cmp.Diff(want, tables); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := Make(t.TempDir()); err == nil {
		t.Error("a folder without a model was read")
	}
}
