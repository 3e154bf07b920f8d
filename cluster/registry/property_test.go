package registry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

func TestAnyValidConfigSurvivesYAMLAndJSON(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := genConfig().Draw(rt, "config")
		if faults := c.Validate(); len(faults) > 0 {
			rt.Fatalf("the generator made an invalid configuration:\n%v", faults)
		}
		survives(t, c)
	})
}

// survives checks that a valid configuration is the same after YAML and JSON.
func survives(t *testing.T, c Config) {
	t.Helper()
	doc, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse("marshalled", doc)
	if err != nil {
		t.Fatalf("Parse refuses what Marshal wrote: %v\n%s", err, doc)
	}
	sameValues(t, "the configuration after Marshal and Parse", c, parsed)
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var decoded Config
	if err := json.Unmarshal(data, &decoded); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	sameValues(t, "the configuration after JSON", c, decoded)
	sameValues(t, "a clone", c, c.Clone())
	sameValues(t, "a configuration whose defaults are filled in already", c, c.WithDefaults())
	if !c.Equal(parsed) {
		t.Fatalf("Equal denies that these are the same: %v", Diff(c, parsed))
	}
}

func TestDiffIsEmptyOfEqualConfigsAlone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := genConfig().Draw(rt, "a"), genConfig().Draw(rt, "b")
		if len(Diff(a, a)) > 0 {
			rt.Fatalf("a configuration differs from itself: %v", Diff(a, a))
		}
		forth, back := Diff(a, b), Diff(b, a)
		if len(forth) != len(back) {
			rt.Fatalf("%d changes there, %d back:\n%v\n%v", len(forth), len(back), forth, back)
		}
		order := []string{KindVIP, KindNeighbor, KindCertificate, KindListener, KindRoute, KindPool, KindServer}
		if !slices.IsSortedFunc(forth, func(a, b Change) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) }) {
			rt.Fatalf("the kinds are out of order: %v", forth)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(minimal))
	if doc, err := os.ReadFile("testdata/full.yaml"); err == nil {
		f.Add(doc)
	}
	docs, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil || len(docs) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range docs {
		doc, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := Parse("fuzz.yaml", doc)
		if err != nil {
			faults, ok := err.(Faults)
			if !ok || len(faults) == 0 || len(faults) > maxFaults {
				t.Fatalf("an error that is not Faults: %#v", err)
			}
			for _, fault := range faults {
				if fault.Line < 1 || fault.Column < 1 || fault.Message == "" || fault.File != "fuzz.yaml" {
					t.Fatalf("an incomplete fault: %#v", fault)
				}
			}
			return
		}
		if faults := c.Validate(); len(faults) > 0 {
			t.Fatalf("Validate refuses what Parse accepted:\n%v", faults)
		}
		survives(t, c)
	})
}

func TestTheEffectiveConfigIsValidAndStays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := genConfig().Draw(rt, "config")
		e := c.Effective()
		if faults := e.Validate(); len(faults) > 0 {
			rt.Fatalf("the effective configuration is not valid:\n%v", faults)
		}
		sameValues(t, "the effective configuration of an effective one", e, e.Effective())
		survives(t, e)
	})
}

func FuzzUnmarshalJSON(f *testing.F) {
	for _, c := range []Config{{}, exampleConfig(), full(f)} {
		data, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"pools":[{"servers":null,"slow_start":"1s","hash":{"bound":1.5}}],"vips":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Config
		if err := json.Unmarshal(data, &c); err != nil {
			return
		}
		// Whatever a log may hold: no panic, and two nodes judge alike.
		if d := cmp.Diff(c.Validate(), c.Clone().Validate()); d != "" {
			t.Fatalf("two nodes differ:\n%s", d)
		}
		c.Effective()
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var decoded Config
		if err := json.Unmarshal(again, &decoded); err != nil {
			t.Fatalf("%v\n%s", err, again)
		}
		sameValues(t, "the configuration after JSON", c, decoded)
		if len(c.Validate()) == 0 {
			survives(t, c)
		}
	})
}
