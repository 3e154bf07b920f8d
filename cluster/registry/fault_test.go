package registry

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each testdata/faults/NAME.yaml is a bad document, and NAME.faults the exact
// answer to it. PHAROS_UPDATE_GOLDEN=1 writes the answers anew: read the diff.
func TestFaultsOfBadDocuments(t *testing.T) {
	docs, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil || len(docs) < 20 {
		t.Fatalf("found %d documents in testdata/faults, %v", len(docs), err)
	}
	for _, path := range docs {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			doc, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := Parse(name+".yaml", doc)
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("Parse accepted the document, or gave an error that is not Faults: %v", err)
			}
			sameValues(t, "the configuration beside an error", Config{}, cfg)
			for i, f := range faults {
				if f.Line < 1 || f.Column < 1 {
					t.Errorf("a fault without a position: %v", f)
				}
				if i > 0 && (faults[i-1].Line > f.Line || faults[i-1].Line == f.Line && faults[i-1].Column > f.Column) {
					t.Errorf("the faults are out of order at %v", f)
				}
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".faults"
			got := err.Error() + "\n"
			if os.Getenv("PHAROS_UPDATE_GOLDEN") == "1" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}
