package registry

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// full reads testdata/full.yaml, which has every key that there is.
func full(t testing.TB) Config {
	t.Helper()
	doc, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("full.yaml", doc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// golden compares text with a file in testdata. PHAROS_UPDATE_GOLDEN=1 writes
// it anew: read the diff.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if os.Getenv("PHAROS_UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("unlike %s (-want +got):\n%s", path, d)
	}
}

func TestTheFullDocumentHasEveryKey(t *testing.T) {
	unset := map[string]bool{}
	everyRecord(func(typ reflect.Type) {
		for _, f := range recordOf(typ).fields {
			unset[typ.Name()+"."+f.key] = true
		}
	})
	everyValue(reflect.ValueOf(full(t)), func(v reflect.Value, f field) { delete(unset, v.Type().Name()+"."+f.key) })
	if len(unset) > 0 {
		t.Errorf("it has no value for %v", slices.Sorted(maps.Keys(unset)))
	}
}

// everyValue calls visit for each field that has a value, with the struct that
// it is in.
func everyValue(v reflect.Value, visit func(reflect.Value, field)) {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		everyValue(v.Elem(), visit)
	case v.Kind() == reflect.Slice && !isScalar(v.Type().Elem()):
		for i := range v.Len() {
			everyValue(v.Index(i), visit)
		}
	case v.Kind() == reflect.Struct && !isScalar(v.Type()):
		for _, f := range recordOf(v.Type()).fields {
			if e := v.Field(f.index); !e.IsZero() {
				visit(v, f)
				everyValue(e, visit)
			}
		}
	}
}

func TestTheFullDocumentIsWrittenToBeRead(t *testing.T) {
	c := full(t)
	doc, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.marshalled.yaml", doc)
	again, err := Parse("again", doc)
	if err != nil {
		t.Fatal(err)
	}
	sameValues(t, "the configuration after Marshal and Parse", c, again)
}

// The JSON is in Raft logs: what testdata has was written by this version, and
// every later one must read the same from it. A new field joins; nothing else
// may change.
func TestTheJSONOfEveryFieldIsStable(t *testing.T) {
	c := full(t)
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.json", append(data, '\n'))
	var again Config
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	sameValues(t, "the configuration after JSON", c, again)
}

func TestEffectiveFillsInEverything(t *testing.T) {
	doc := []byte(minimal)
	c, err := Parse("minimal.yaml", doc)
	if err != nil {
		t.Fatal(err)
	}
	before := c.Clone()
	data, err := json.MarshalIndent(c.Effective(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "effective.json", append(data, '\n'))
	sameValues(t, "the configuration before", before, c)
	sameValues(t, "the effective configuration of an effective one", c.Effective(), c.Effective().Effective())
	if faults := c.Effective().Validate(); len(faults) > 0 {
		t.Errorf("the effective configuration is not valid:\n%v", faults)
	}
}

// minimal has a thing of each kind, and as few fields as it may.
const minimal = `
vips: [{name: web, addresses: [198.51.100.1]}]
certificates:
  - {name: api, chain: "-----BEGIN CERTIFICATE-----\nMIIBijCCATGgAwIBAgIUO39YM0FLzS4jh5KzSsFUKKMJPh8wCgYIKoZIzj0EAwIw\nGjEYMBYGA1UEAwwPYXBpLmV4YW1wbGUuY29tMCAXDTI2MTEyNDIxMjYyMloYDzIx\nMjYxMDMxMjEyNjIyWjAaMRgwFgYDVQQDDA9hcGkuZXhhbXBsZS5jb20wWTATBgcq\nhkjOPQIBBggqhkjOPQMBBwNCAAQNjujoQszXP0MSoFvXvpUnSe4GgzgQStxo+pg2\n9Jlvx2CUOX0ebOGUp506yNq3CeIyZUpvjRjpY2wPrrX+mNzNo1MwUTAdBgNVHQ4E\nFgQUr0jUqL3CwPaoKCyMNf8rnty2vlMwHwYDVR0jBBgwFoAUr0jUqL3CwPaoKCyM\nNf8rnty2vlMwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBT7LzA\nQL51vfchjWhuULL51eVAHB4wERyOpz5L+dd1yQIgF0+PIExgejnDoVWNJoYH4ku8\njTc5Rm3iEnEk+LTMG7Q=\n-----END CERTIFICATE-----\n", key: "sealed:v1:c2VhbGVk"}
listeners:
  - name: https
    vip: web
    port: 443
    protocol: https
    tls: {certificates: [api]}
    hsts: {}
    client_limit: {rate: 0.5}
    error_pages: [{status: [500]}]
    routes:
      - {name: a, path: /a, pool: app, mirror: {pool: hashed}}
      - {name: b, path: /b, respond: {status: 200, body: b}}
      - {name: c, path: /c, redirect: {port: 8443}}
  - {name: http, vip: web, port: 80, protocol: http, redirect_https: {}}
  - {name: tcp, vip: web, port: 1, protocol: tcp, pool: plain}
  - {name: tls, vip: web, port: 2, protocol: tls, pool: plain}
  - {name: udp, vip: web, port: 1, protocol: udp, pool: plain}
pools:
  - name: app
    health_check: {http: /}
    max_fails: 1
    outlier: {}
    max_requests: 1
    queue: 1
    adaptive: {}
    persistence: {cookie: c}
    tls: {}
  - name: plain
    health_check: {grpc: "", interval: 500ms}
    retry: {budget: -1}
    servers: [{name: a, address: 10.0.0.1:80}]
  - {name: hashed, balance: source_hash}
`

func TestPEMSurvivesTheLineEndsOfOtherSystems(t *testing.T) {
	doc, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("full.yaml", bytes.ReplaceAll(doc, []byte("\n"), []byte("\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	sameValues(t, "the configuration", full(t), c)
}
