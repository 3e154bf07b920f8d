package check

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
		want map[string]string
	}{
		{"zero is a tcp check", Spec{}, nil},
		{"a whole http check", Spec{Kind: KindHTTP, Method: "HEAD", Path: "/a?b=c", Host: "[2001:db8::1]:80", Headers: [][2]string{{"X-A", "b\tc ü"}}, Expect: []StatusRange{{200, 599}}}, nil},
		{"a whole grpc check", Spec{Kind: KindGRPC, Service: "a.b.C", Host: "grpc.example", TLS: &tls.Config{}}, nil},
		{"an unknown kind", Spec{Kind: "icmp", Path: "/"}, map[string]string{"kind": `"icmp" is not known: use "tcp", "http" or "grpc"`}},
		{
			"http settings of a tcp check",
			Spec{Method: "GET", Path: "/", Host: "a", Headers: [][2]string{{"a", "b"}}, Expect: []StatusRange{{200, 200}}, Body: "x", Service: "s"},
			map[string]string{
				"method": "is for http checks only", "path": "is for http checks only", "host": "is for http checks only", "headers": "is for http checks only",
				"expect": "is for http checks only", "body": "is for http checks only", "service": "is for grpc checks only",
			},
		},
		{
			"every fault of an http check at once",
			Spec{
				Kind: KindHTTP, Method: "GE T", Path: "ok", Host: "a b", Body: "(",
				Headers: [][2]string{{"", ""}, {"Host", "a"}, {"connection", "close"}, {"X-A", "b\r\nc"}},
				Expect:  []StatusRange{{200, 299}, {300, 299}, {100, 200}, {200, 600}},
				Service: strings.Repeat("s", 1001),
			},
			map[string]string{
				"method": `"GE T" is not a method`, "path": `"ok" is not a path: it begins with a slash, and has no spaces, controls, fragment, bytes over 127, or percent signs without two digits`,
				"host":       `"a b" has bytes that do not belong there`,
				"headers[0]": `"" is not a field name`, "headers[1]": "the host has a setting of its own", "headers[2]": "connection is the check's own to set",
				"headers[3]": "the value of X-A has control characters",
				"expect[1]":  "300 to 299 is not a range of final HTTP statuses, 200 to 599", "expect[2]": "100 to 200 is not a range of final HTTP statuses, 200 to 599",
				"expect[3]": "200 to 600 is not a range of final HTTP statuses, 200 to 599",
				"body":      "error parsing regexp: missing closing ): `(`", "service": "is not UTF-8 of at most 1000 bytes",
			},
		},
		{"an answer to HEAD has no body", Spec{Kind: KindHTTP, Method: "HEAD", Body: "x"}, map[string]string{"body": "an answer to HEAD has none"}},
		{"no tunnels", Spec{Kind: KindHTTP, Method: "CONNECT"}, map[string]string{"method": "CONNECT asks for a tunnel, not for an answer"}},
		{"a grpc host that injects", Spec{Kind: KindGRPC, Host: "a\r\nb"}, map[string]string{"host": `"a\r\nb" has bytes that do not belong there`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got map[string]string
			tt.spec.Validate(func(field, reason string) {
				if got == nil {
					got = map[string]string{}
				}
				got[field] = reason
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEqual(t *testing.T) {
	base := func() Spec {
		return Spec{Kind: KindHTTP, Method: "GET", Path: "/", Host: "h", Headers: [][2]string{{"a", "b"}}, Expect: []StatusRange{{200, 299}}, Body: "b", Service: "s"}
	}
	if !base().Equal(base()) {
		t.Error("a spec differs from its copy")
	}
	for name, change := range map[string]func(*Spec){
		"kind": func(s *Spec) { s.Kind = KindGRPC }, "tls": func(s *Spec) { s.TLS = &tls.Config{} }, "method": func(s *Spec) { s.Method = "HEAD" },
		"path": func(s *Spec) { s.Path = "/x" }, "host": func(s *Spec) { s.Host = "" }, "headers": func(s *Spec) { s.Headers[0][1] = "c" },
		"expect": func(s *Spec) { s.Expect[0].To = 200 }, "body": func(s *Spec) { s.Body = "" }, "service": func(s *Spec) { s.Service = "" },
	} {
		changed := base()
		change(&changed)
		if changed.Equal(base()) {
			t.Errorf("a change of %s goes unnoticed", name)
		}
	}
}
