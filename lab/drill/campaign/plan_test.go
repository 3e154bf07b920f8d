package campaign

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var three = []string{"n1", "n2", "n3"}

func TestPlanDrawsEverything(t *testing.T) {
	rounds, err := Plan(1, 2000, three, Kinds())
	if err != nil {
		t.Fatal(err)
	}
	faults, doubles := 0, 0
	kinds, nodes, partitions := map[Kind]int{}, map[string]int{}, map[string]int{}
	for _, r := range rounds {
		faults += len(r.Faults)
		if len(r.Faults) == 2 {
			doubles++
		}
		for _, f := range r.Faults {
			kinds[f.Kind]++
			nodes[f.Node]++
			if f.Kind == Partition {
				partitions[f.String()]++
			}
		}
	}
	if faults != 2000 || doubles < 100 {
		t.Errorf("%d faults, %d rounds with two; want 2000, and some", faults, doubles)
	}
	for _, k := range Kinds() {
		if kinds[k] < 100 {
			t.Errorf("%d times %s in 2000", kinds[k], k)
		}
	}
	for _, n := range three {
		if nodes[n] < 400 {
			t.Errorf("%d faults of %s", nodes[n], n)
		}
	}
	for _, want := range []string{
		"partition n1>n2 n1>n3 n2>n1 n3>n1",             // one apart
		"partition n1>n2 n1>n3",                         // it is not heard
		"partition n2>n1 n3>n1",                         // it does not hear
		"partition n1>n2 n1>n3 n2>n1 n2>n3 n3>n1 n3>n2", // everybody by itself
		"partition n1>n2",                               // one way between two
		"partition n1>n2 n2>n3 n3>n1",                   // in a circle
	} {
		if partitions[want] == 0 {
			t.Errorf("%s was never drawn, of %d partitions", want, len(partitions))
		}
	}
}

func TestPlanIsItsSeeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		a, err1 := Plan(seed, 40, three, Kinds())
		b, err2 := Plan(seed, 40, three, Kinds())
		if err1 != nil || err2 != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("one seed gave two plans: %v, %v", err1, err2)
		}
		total := 0
		for _, r := range a {
			total += len(r.Faults)
			if r.Hold < holdLeast || r.Hold > holdMost || r.Pause < 0 || r.Pause > pauseMost {
				t.Errorf("round %s: pause %v, hold %v", r, r.Pause, r.Hold)
			}
			if len(r.Faults) == 2 && r.Faults[0].Node != "" && r.Faults[0].Node == r.Faults[1].Node {
				t.Errorf("round %s breaks one node twice", r)
			}
			for _, f := range r.Faults {
				if (f.Kind == Partition) != (f.Node == "" && len(f.Cuts) > 0) {
					t.Errorf("fault %+v", f)
				}
			}
		}
		if total != 40 {
			t.Errorf("%d faults, want 40", total)
		}
	})
}

func TestPlanRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		faults int
		nodes  []string
		kinds  []Kind
		want   string
	}{
		{"no fault", 0, three, Kinds(), "0 faults"},
		{"one node", 1, three[:1], Kinds(), "1 nodes"},
		{"no kind", 1, three, nil, "no kind"},
		{"an unknown kind", 1, three, []Kind{"meteor"}, `no kind of fault "meteor"`},
	} {
		if _, err := Plan(1, tt.faults, tt.nodes, tt.kinds); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
