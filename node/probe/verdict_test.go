package probe

import (
	"errors"
	"testing"
)

func TestVerdict(t *testing.T) {
	pass, fail, late := Outcome{}, Outcome{Err: errors.New("refused")}, Outcome{Err: errors.New("timeout"), Late: true}
	tests := []struct {
		name           string
		outcomes       []Outcome
		proven, fallen bool
		why            string
	}{
		{"nothing is known", nil, false, false, ""},
		{"one pass proves", []Outcome{pass}, true, false, ""},
		{"a failure less than it takes", []Outcome{pass, fail, fail}, true, false, "refused"},
		{"as many as it takes", []Outcome{pass, fail, fail, fail}, false, true, "refused"},
		{"never in a row", []Outcome{pass, fail, fail, pass, fail, fail}, true, false, "refused"},
		{"no evidence in between", []Outcome{pass, fail, late, late, fail}, true, false, "refused"},
		{"no evidence ends no row", []Outcome{pass, fail, late, fail, late, fail}, false, true, "refused"},
		{"it comes back", []Outcome{fail, fail, fail, fail, pass}, true, false, ""},
		{"it never passed", []Outcome{fail, fail, fail}, false, true, "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v Verdict
			for _, o := range tt.outcomes {
				v = v.Step(o, 3)
			}
			if v.Proven != tt.proven || v.Fallen != tt.fallen || v.Why != tt.why {
				t.Errorf("%+v", v)
			}
		})
	}
}
