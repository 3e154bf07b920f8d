package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// clear is a line of the key in testdata/full.yaml.
const clear = "AwEHoUQDQgAEDY7o6ELM1z9DEqBb176VJ0nuBoM4EErcaPqYNvSZb8dglDl9Hmzh"

// password is that of a neighbor there.
const password = "correct horse battery staple"

func TestAKeyIsNeverShown(t *testing.T) {
	c := full(t)
	if !strings.Contains(string(c.Certificates[0].Key), clear) {
		t.Fatal("testdata/full.yaml has another key")
	}
	other := c.Clone()
	other.Certificates[0].Key = "sealed:v1:b3RoZXI="
	other.Neighbors[0].Password = "sealed:v1:b3RoZXI="
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("configuration", "config", c, "certificate", c.Certificates[0], "key", c.Certificates[0].Key)
	shown := map[string]string{
		"a log":    log.String(),
		"a change": fmt.Sprint(Diff(c, other), Diff(other, c)), "an addition": fmt.Sprint(Diff(Config{}, c)), "a removal": fmt.Sprint(Diff(c, Config{})),
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		shown[verb] = fmt.Sprintf(verb, c) + fmt.Sprintf(verb, c.Neighbors[0]) + fmt.Sprintf(verb, c.Certificates[0].Key) + fmt.Sprintf(verb, &c.Certificates[0])
	}
	for what, text := range shown {
		if text == "" || strings.Contains(text, clear) || strings.Contains(text, password) || strings.Contains(text, fmt.Sprintf("%x", password)) || strings.Contains(text, "b3RoZXI") || strings.Contains(text, fmt.Sprintf("%x", clear)) {
			t.Errorf("%s shows the key: %s", what, text)
		}
	}
}

func TestNoFaultRepeatsAKey(t *testing.T) {
	doc, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	key := string(full(t).Certificates[0].Key)
	quoted := doubleQuoted(key)
	texts := map[string]string{
		"the document's own key cut short": strings.Replace(string(doc), clear, clear[:40], 1),
	}
	for _, at := range []string{
		"vips: [{name: %s}]", "vips: %s", "listeners: [{via: %s, protocol: %s, vip: %s, pool: %s}]", "%s", "certificates: [%s]",
		"certificates: [{name: %s, chain: %s, key: [%s], ocsp: %s}]", "certificates: [{key: {a: %s}}]", "pools: [{name: a, slow_start: %s, max_requests: %s, fail_open: %s, balance: %s, hash: {bound: %s}}]",
		"listeners: [{trusted_sources: [%s], error_pages: [{status: [%s], body: %s, content_type: %s}], routes: [{hosts: [%s], path: %s, path_regex: %s, methods: [%s]}]}]",
		"pools: [{health_check: {headers: {A: %s}, expect_status: [%s], method: %s, host: %s, grpc: %s}, servers: [{address: %s}]}]",
	} {
		texts[at] = strings.ReplaceAll(at, "%s", quoted)
		texts[at+" in a block"] = "certificates:\n  - key: |" + strings.ReplaceAll(key, "\n", " ") + "\n" + strings.ReplaceAll(at, "%s", "x")
	}
	for name, text := range texts {
		_, err := Parse("x", []byte(text))
		if err == nil {
			t.Errorf("%s: Parse took it", name)
			continue
		}
		for i := 0; i+12 <= len(clear); i++ {
			if part := clear[i : i+12]; strings.Contains(err.Error(), part) {
				t.Errorf("%s: a fault has %s of the key:\n%v", name, part, err)
				break
			}
		}
	}
}

func TestNoFaultInTestdataHasALineOfPEM(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.faults")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("MHcC")) || bytes.Contains(text, []byte("MIIB")) {
			t.Errorf("%s repeats PEM:\n%s", path, text)
		}
	}
}

func TestMapKeys(t *testing.T) {
	c := full(t)
	before := c.Clone()
	sealed, err := c.MapKeys(func(name, key string) (string, error) {
		if strings.HasPrefix(key, SealedPrefix) {
			return key, nil
		}
		if (name != KeyPurpose("api") || !strings.Contains(key, clear)) && (name != PasswordPurpose("tor1") || key != password) {
			t.Errorf("%s with %s", name, key)
		}
		return SealedPrefix + "b25l", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if sealed.Certificates[0].Key != SealedPrefix+"b25l" || sealed.Certificates[1].Key != before.Certificates[1].Key {
		t.Errorf("the keys are %q and %q", string(sealed.Certificates[0].Key), string(sealed.Certificates[1].Key))
	}
	if sealed.Neighbors[0].Password != SealedPrefix+"b25l" || sealed.Neighbors[1].Password != "" {
		t.Errorf("the passwords are %q and %q", string(sealed.Neighbors[0].Password), string(sealed.Neighbors[1].Password))
	}
	if faults := sealed.Validate(); len(faults) > 0 {
		t.Error(faults)
	}
	data, err := json.Marshal(sealed)
	if err != nil || bytes.Contains(data, []byte(clear)) {
		t.Errorf("the sealed configuration has the key: %v", err)
	}
	sameValues(t, "the configuration before", before, c)
	fault := errors.New("no key to seal with")
	if _, err := c.MapKeys(func(string, string) (string, error) { return "", fault }); !errors.Is(err, fault) || !strings.Contains(err.Error(), "tor1") {
		t.Errorf("got %v", err)
	}
}
