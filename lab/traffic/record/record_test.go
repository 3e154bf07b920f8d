package record

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEachLineReadsBackAsWritten(t *testing.T) {
	lines := []Line{
		{Begin: &Begin{Target: "198.51.100.1:80", Interval: 2e6, Timeout: 1e9, Started: 5, Held: 3}},
		{Probe: &Probe{Sequence: 1, Scheduled: 10, Sent: 11, Connected: 12, Ended: 13, Outcome: OK, Stage: Established, Peer: "10.0.1.2", Backend: "b1"}},
		{Probe: &Probe{Sequence: 2, Scheduled: 20, Sent: 21, Ended: 22, Outcome: Refused, Stage: Connecting, Detail: "connection refused"}},
		{Held: &Held{Slot: 2, Opened: 1, Connected: 2, Ended: 30, Exchanges: 4, Outcome: Reset, Stage: Established, Node: "n1"}},
		{End: &End{Ended: 40, Sent: 2, CPU: 7, Why: "deadline"}},
	}
	var text []byte
	for _, l := range lines {
		var err error
		if text, err = Append(text, l); err != nil {
			t.Fatal(err)
		}
	}
	var got []Line
	if err := Read(strings.NewReader(string(text)), func(l Line) error { got = append(got, l); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines, got); diff != "" {
		t.Errorf("read back (-written +read):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, line := range map[string]string{
		"nothing":         ``,
		"no json":         `sh: pharos: not found`,
		"empty object":    `{}`,
		"two kinds":       `{"begin":{},"end":{}}`,
		"unknown field":   `{"probe":{"outcome":"ok","stage":"established","verdict":"pass"}}`,
		"unknown outcome": `{"probe":{"outcome":"fine","stage":"established"}}`,
		"no stage":        `{"probe":{"outcome":"ok"}}`,
		"two values":      `{"end":{}} {"end":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if l, err := Parse([]byte(line)); !errors.Is(err, ErrLine) {
				t.Errorf("Parse = %+v, %v; want an ErrLine", l, err)
			}
		})
	}
}

func TestReadNamesTheLine(t *testing.T) {
	err := Read(strings.NewReader("{\"end\":{}}\nrubbish\n"), func(Line) error { return nil })
	if !errors.Is(err, ErrLine) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("err = %v, want an ErrLine that names line 2", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"probe":{"seq":1,"scheduled":1,"sent":2,"connected":3,"ended":4,"outcome":"ok","stage":"established","peer":"10.0.1.2"}}`))
	f.Add([]byte(`{"begin":{"target":"[2001:db8:100::1]:80","interval":2000000}}`))
	f.Add([]byte(`{"held":{"slot":1,"outcome":"finished","stage":"established"}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := Parse(in)
		if err != nil {
			return
		}
		out, err := Append(nil, l)
		if err != nil {
			t.Fatalf("accepted %q but cannot write it: %v", in, err)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("wrote %q, which does not parse: %v", out, err)
		}
		if diff := cmp.Diff(l, again); diff != "" {
			t.Errorf("changed on the way:\n%s", diff)
		}
	})
}
