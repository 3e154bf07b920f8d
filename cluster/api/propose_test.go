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

// large is a document of about so many bytes, content of which are no comment.
func large(bytes, content int) string {
	body, comment := strings.Repeat("x", 60000), "# "+strings.Repeat("x", 60000)
	var b strings.Builder
	b.WriteString("vips: [{name: web, addresses: [198.51.100.1]}]\npools: [{name: web, servers: [{name: s, address: \"10.0.0.1:80\"}]}]\nlisteners:\n")
	for port := 1; b.Len() < content; port++ {
		fmt.Fprintf(&b, "  - {name: l%d, vip: web, port: %d, protocol: http, pool: web, error_pages: [{status: [500], body: \"%s\"}]}\n", port, port, body)
	}
	for b.Len() < bytes-len(comment)-1 {
		b.WriteString(comment + "\n")
	}
	return b.String()
}

// More than gRPC takes by default (4 MiB) goes from the client to a follower, to
// the leader and back.
func TestADocumentOfTheLargestSizeIsTakenByAnyNode(t *testing.T) {
	h := newHouse(t, "n2")
	text := large(registry.MaxDocument, 5<<20)
	if len(text) > registry.MaxDocument || len(text) < registry.MaxDocument*9/10 {
		t.Fatalf("the document has %d bytes", len(text))
	}
	client := h.client(t, "n1", "n2")
	answer, err := client.Apply(t.Context(), apply(text))
	if err != nil || answer.GetVersion() != 1 {
		t.Fatalf("version %d, %v", answer.GetVersion(), err)
	}
	got, err := client.Config(t.Context())
	if err != nil || len(got.Config.Listeners) < 80 {
		t.Errorf("%d listeners came back, %v", len(got.Config.Listeners), err)
	}
}
