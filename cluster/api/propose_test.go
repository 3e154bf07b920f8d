package api

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// peer gives one member's connection to another, as nodes have it.
func (h *house) peer(t *testing.T, as, to string) pharosv1.PeerClient {
	t.Helper()
	conn, err := dial(h.members[as].identity, to, h.members[to].address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pharosv1.NewPeerClient(conn)
}

// The state machine does not judge a configuration, so the leader must, also
// when another member, of another version maybe, has parsed it.
func TestTheLeaderValidatesBeforeItProposes(t *testing.T) {
	h := newHouse(t, "n2")
	before := h.submitted()
	encoded, err := fsm.EncodeCommand(fsm.Command{By: "n2", ApplyConfig: &fsm.ApplyConfig{
		Config: registry.Config{Pools: []registry.Pool{{Name: "NOT A NAME"}}}.WithDefaults(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.peer(t, "n2", "n1").Submit(t.Context(), &pharosv1.SubmitRequest{Command: encoded})
	faults, ok := detailOf[*pharosv1.Faults](err)
	if status.Code(err) != codes.InvalidArgument || !ok || len(faults.GetFaults()) != 1 || faults.GetFaults()[0].GetPath() != "pools[0].name" {
		t.Errorf("got %v", err)
	}
	if h.submitted() != before {
		t.Error("a configuration with faults was proposed")
	}
}

// large is a document of at most, and about, so many bytes.
func large(bytes int) string {
	body := strings.Repeat("x", 8000)
	var b strings.Builder
	b.WriteString("vips: [{name: web, addresses: [198.51.100.1]}]\npools: [{name: web, servers: [{name: s, address: \"10.0.0.1:80\"}]}]\nlisteners:\n")
	for port := 1; b.Len() < bytes-len(body)-200; port++ {
		fmt.Fprintf(&b, "  - {name: l%d, vip: web, port: %d, protocol: http, pool: web, error_pages: [{status: [500], body: \"%s\"}]}\n", port, port, body)
	}
	return b.String()
}

func TestADocumentOfTheLargestSizeIsTakenByAnyNode(t *testing.T) {
	h := newHouse(t, "n2")
	text := large(registry.MaxDocument)
	if len(text) < registry.MaxDocument*9/10 {
		t.Fatalf("the document has %d bytes only", len(text))
	}
	answer, err := h.client(t, "n1", "n2").Apply(t.Context(), apply(text))
	if err != nil || answer.GetVersion() != 1 {
		t.Errorf("version %d, %v", answer.GetVersion(), err)
	}
}
