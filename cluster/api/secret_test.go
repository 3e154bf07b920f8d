package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// certificate makes one, with its key in clear.
func certificate(t *testing.T, name string) registry.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"api.example.com"}}
	chain, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return registry.Certificate{
		Name:  name,
		Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain})),
		Key:   registry.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
}

func documentOf(certificates ...registry.Certificate) string {
	return string(registry.Config{Certificates: certificates}.Excerpt())
}

func TestPrivateKeysAreSealedBeforeTheyLeaveTheAskedNode(t *testing.T) {
	h := newHouse(t, "n2")
	cert := certificate(t, "api")
	client := h.client(t, "n1", "n2")
	for range 2 {
		answer, err := client.Apply(t.Context(), apply(documentOf(cert)))
		if err != nil || answer.GetVersion() != 1 {
			t.Fatalf("version %d, %v", answer.GetVersion(), err)
		}
	}
	for _, c := range h.commands {
		if c.ApplyConfig != nil && !c.ApplyConfig.Config.Certificates[0].Sealed() {
			t.Error("a key came to the leader in clear")
		}
	}
	got, err := client.Config(t.Context())
	if err != nil || !got.Config.Certificates[0].Sealed() {
		t.Fatalf("get gives %v, %v", got, err)
	}
	for name, m := range h.members {
		opened, err := m.identity.OpenConfig(got.Config)
		if err != nil || opened.Certificates[0].Key != cert.Key {
			t.Errorf("%s opens another key: %v", name, err)
		}
	}
	answer, err := client.Apply(t.Context(), apply(documentOf(got.Config.Certificates...)))
	if err != nil || answer.GetVersion() != 1 || len(answer.GetChanges()) != 0 {
		t.Errorf("the sealed document made version %d, changes %v, %v", answer.GetVersion(), answer.GetChanges(), err)
	}
}

func TestSealedKeysAreVerified(t *testing.T) {
	h := newHouse(t)
	identity := h.members["n1"].identity
	cert, other := certificate(t, "api"), certificate(t, "api")
	seal := func(c registry.Certificate) registry.Certificate {
		return identity.SealConfig(registry.Config{Certificates: []registry.Certificate{c}}).Certificates[0]
	}
	renamed := seal(cert)
	renamed.Name = "renamed"
	swapped := cert
	swapped.Key = seal(other).Key
	stranger := cert
	stranger.Key = registry.Secret(newHouse(t).members["n1"].identity.SealSecret("certificate api", string(cert.Key)))
	for _, test := range []struct {
		name string
		cert registry.Certificate
		want string
	}{
		{"under another name", renamed, "not by this cluster for this name"},
		{"the key of another certificate", swapped, "is not the key"},
		{"sealed by another cluster", stranger, "not by this cluster for this name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := h.client(t, "n1", "n1").Apply(t.Context(), apply(documentOf(test.cert)))
			e := failed(t, err, codes.InvalidArgument, "nothing was changed")
			if len(e.Faults) != 1 || e.Faults[0].Path != "certificates[0].key" || e.Faults[0].Line == 0 || !strings.Contains(e.Faults[0].Message, test.want) {
				t.Errorf("faults: %+v", e.Faults)
			}
			if text := fmt.Sprintf("%+v", e); strings.Contains(text, string(test.cert.Key)) {
				t.Errorf("the answer shows the key: %s", text)
			}
		})
	}
}

func TestTheLeaderTakesNoKeyInClear(t *testing.T) {
	h := newHouse(t, "n2")
	before := h.submitted()
	encoded, err := fsm.EncodeCommand(fsm.Command{ApplyConfig: &fsm.ApplyConfig{Config: registry.Config{Certificates: []registry.Certificate{certificate(t, "api")}}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.peer(t, "n2", "n1").Submit(t.Context(), &pharosv1.SubmitRequest{Command: encoded})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "certificate api is in clear") {
		t.Errorf("got %v", err)
	}
	if h.submitted() != before {
		t.Error("it was proposed")
	}
}
