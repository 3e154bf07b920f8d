package endtoend

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// watched is a BFD session as the router has it.
type watched struct {
	Peer   string `json:"peer"`
	Status string `json:"status"`
	Local  uint32 `json:"id"`        // the discriminators, others for each session: one that BGP
	Remote uint32 `json:"remote-id"` // makes anew counts from 0
	Ups    int    `json:"session-up"`
	Downs  int    `json:"session-down"`
}

// bfd gives the router's sessions, by the node's address.
func (s *site) bfd() (map[string]watched, error) {
	out := map[string]watched{}
	for _, what := range []string{"show bfd peers json", "show bfd peers counters json"} {
		r := s.on("tor1", "vtysh", "-c", what)
		var peers []json.RawMessage
		if err := json.Unmarshal([]byte(r.stdout), &peers); err != nil || r.code != 0 {
			return nil, fmt.Errorf("%s: exit code %d, %s%s, %w", what, r.code, r.stdout, r.stderr, err)
		}
		for _, p := range peers {
			var id watched
			if err := json.Unmarshal(p, &id); err != nil {
				return nil, err
			}
			session := out[id.Peer]
			if err := json.Unmarshal(p, &session); err != nil {
				return nil, err
			}
			out[id.Peer] = session
		}
	}
	return out, nil
}

// watchBFD waits until the router has its BFD sessions with all nodes; what it
// gives says that they are still the same, and have not been down meanwhile.
func (s *site) watchBFD() (same func(t *testing.T)) {
	s.t.Helper()
	var before map[string]watched
	s.await("BFD with three nodes", func() error {
		var err error
		if before, err = s.bfd(); err != nil {
			return err
		}
		up := maps.Clone(before)
		maps.DeleteFunc(up, func(_ string, w watched) bool { return w.Status != "up" })
		if len(up) != 3 {
			return fmt.Errorf("it has %v", before)
		}
		return nil
	})
	return func(t *testing.T) {
		t.Helper()
		after, err := s.bfd()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, after); d != "" {
			t.Errorf("the router's BFD sessions have changed (-before +after):\n%s", d)
		}
	}
}
