package balance

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestChoose(t *testing.T) {
	tests := []struct {
		name     string
		in       []Candidate
		failOpen bool
		want     Choice
	}{
		{"empty pool", nil, true, Choice{Tier: None}},
		{"primaries only when usable", []Candidate{{1, false, true}, {1, false, false}, {1, true, true}}, true, Choice{Primary, []int{0}, []int{2}}},
		{"weight 0 takes no work", []Candidate{{0, false, true}, {2, false, true}}, true, Choice{Tier: Primary, Active: []int{1}}},
		{"first usable backup when no primary", []Candidate{{1, false, false}, {1, true, false}, {1, true, true}, {1, true, true}}, true, Choice{Backup, []int{2}, []int{3}}},
		{"a primary of weight 0 does not keep backups out", []Candidate{{0, false, true}, {1, true, true}}, true, Choice{Tier: Backup, Active: []int{1}}},
		{"all down, fail open", []Candidate{{1, false, false}, {3, true, false}, {0, false, false}}, true, Choice{Tier: FailOpen, Active: []int{0, 1}}},
		{"all down, fail closed", []Candidate{{1, false, false}}, false, Choice{Tier: None}},
		{"all drained by weight", []Candidate{{0, false, true}}, true, Choice{Tier: None}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Choose(tt.in, tt.failOpen), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Choose (-want +got):\n%s", diff)
			}
		})
	}
}

// Nobody of weight 0 takes work; a backup takes it only while no primary can,
// and then the first one that can.
func TestChooseUsesBackupsInOrderAndOnlyWithoutPrimaries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		candidates := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Candidate {
			return Candidate{rapid.IntRange(0, 256).Draw(t, "weight"), rapid.Bool().Draw(t, "backup"), rapid.Bool().Draw(t, "usable")}
		}), 0, 12).Draw(t, "candidates")
		failOpen := rapid.Bool().Draw(t, "fail open")
		c := Choose(candidates, failOpen)
		primaries, firstBackup := 0, -1
		for i, s := range candidates {
			switch {
			case s.Weight == 0 || !s.Usable:
			case !s.Backup:
				primaries++
			case firstBackup < 0:
				firstBackup = i
			}
		}
		for _, i := range append(append([]int(nil), c.Active...), c.Spare...) {
			if candidates[i].Weight == 0 {
				t.Fatalf("%d of weight 0 takes work: %+v", i, c)
			}
			if !candidates[i].Usable && c.Tier != FailOpen {
				t.Fatalf("%d is not usable, and takes work: %+v", i, c)
			}
		}
		switch {
		case primaries > 0:
			if c.Tier != Primary || len(c.Active) != primaries {
				t.Fatalf("%d primaries are usable, but: %+v", primaries, c)
			}
			for _, i := range c.Active {
				if candidates[i].Backup {
					t.Fatalf("backup %d works beside primaries: %+v", i, c)
				}
			}
		case firstBackup >= 0:
			if c.Tier != Backup || len(c.Active) != 1 || c.Active[0] != firstBackup {
				t.Fatalf("want backup %d alone, got %+v", firstBackup, c)
			}
		case c.Tier != None && c.Tier != FailOpen || c.Tier == FailOpen && !failOpen:
			t.Fatalf("nobody is usable, but: %+v", c)
		}
	})
}
