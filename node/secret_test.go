package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/cluster/registry"
)

// withCertificate is a document with a certificate and its key in clear.
func withCertificate(t *testing.T, name string) (document, keyLine string) {
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
	block := func(kind string, der []byte) string {
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n      ")
	}
	text := block("PRIVATE KEY", der)
	document = fmt.Sprintf("certificates:\n  - name: %s\n    chain: |\n      %s\n    key: |\n      %s\n", name, block("CERTIFICATE", chain), text)
	return document, strings.TrimSpace(strings.Split(text, "\n")[2])
}

// Nothing that a node writes has a private key in clear: not the Raft
// log, not a snapshot, not the copy of what runs, not the log of events, whichever node was
// asked. A document with the sealed key changes nothing.
func TestNoPrivateKeyIsOnDiskInClear(t *testing.T) {
	c := newTrio(t)
	document, line := withCertificate(t, "api")
	if !strings.Contains(document, line) || len(line) < 40 {
		t.Fatalf("the key's line is %q", line)
	}
	for _, name := range []string{"n2", c.leader(t), "n3"} {
		if answer := c.apply(t, name, document); answer.GetVersion() != 1 {
			t.Errorf("the same document made version %d on %s", answer.GetVersion(), name)
		}
	}
	var got registry.Snapshot
	c.ask(t, "n3", func(ctx context.Context, client *api.Client) (err error) {
		got, err = client.Config(ctx)
		return err
	})
	sealed, err := got.Config.Marshal()
	if err != nil || strings.Contains(string(sealed), line) || !strings.Contains(string(sealed), "sealed:v1:") {
		t.Fatalf("get gives, %v:\n%s", err, sealed)
	}
	if answer := c.apply(t, "n2", string(sealed)); answer.GetVersion() != 1 || len(answer.GetChanges()) != 0 {
		t.Errorf("the document that get gave made version %d, with changes %v", answer.GetVersion(), answer.GetChanges())
	}
	// Sealed for one certificate, a key opens for no other.
	c.ask(t, "n2", func(ctx context.Context, client *api.Client) error {
		_, err := client.Apply(ctx, &pharosv1.ApplyRequest{Document: []byte(strings.Replace(string(sealed), "name: api", "name: other", 1))})
		var answer *api.Error
		if errors.As(err, &answer) && len(answer.Faults) == 1 && answer.Faults[0].Path == "certificates[0].key" {
			return nil
		}
		return fmt.Errorf("a key sealed for another certificate: %w", err)
	})
	for name, n := range c.nodes {
		opened, err := n.identity.OpenConfig(n.reconciler.View().Config)
		if err != nil || !strings.Contains(string(opened.Certificates[0].Key), line) {
			t.Errorf("%s cannot open the key: %v", name, err)
		}
		var snapshot bytes.Buffer
		if err := fsm.EncodeSnapshot(&snapshot, n.store.State()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(snapshot.String(), line) || !strings.Contains(snapshot.String(), "sealed:v1:") {
			t.Errorf("a snapshot of %s has the key in clear, or not at all", name)
		}
	}
	for name := range c.nodes {
		c.stops[name]()
	}
	for name, dir := range c.dirs {
		if files := written(t, dir, line); len(files) > 0 {
			t.Errorf("%s has the key in clear in %v", name, files)
		}
		sealedIn := strings.Join(written(t, dir, "sealed:v1:"), " ")
		for _, want := range []string{"log.db", "applied.json"} {
			if !strings.Contains(sealedIn, want) {
				t.Errorf("%s has the sealed key in %q, not in %s: what was looked for is not there", name, sealedIn, want)
			}
		}
	}
}
