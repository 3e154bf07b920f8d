package site

import (
	"regexp"
	"testing"
)

func TestAppendTarget(t *testing.T) {
	tests := []struct {
		name        string
		rewrite     Rewrite
		path, query string
		want        string
	}{
		{"nothing", Rewrite{}, "/a", "q=1", "/a?q=1"},
		{"all of it", Rewrite{Path: "/new"}, "/a/b", "", "/new"},
		{"a prefix", Rewrite{Path: "/v2", Prefix: "/v1"}, "/v1/x", "q", "/v2/x?q"},
		{"a prefix that is all", Rewrite{Path: "/v2", Prefix: "/v1"}, "/v1", "", "/v2"},
		{"a prefix away", Rewrite{Path: "/", Prefix: "/v1"}, "/v1/x", "", "/x"},
		{"a prefix away, nothing left", Rewrite{Path: "/", Prefix: "/v1"}, "/v1", "", "/"},
		{"the root below another path", Rewrite{Path: "/app", Prefix: "/"}, "/x", "", "/app/x"},
		{"a prefix that is written otherwise", Rewrite{Path: "/v2", Prefix: "/v1"}, "/%76%31/x", "", "/v2/x"},
		{"dots do not lead out of the new prefix", Rewrite{Path: "/v2", Prefix: "/v1"}, "/v1/../v1/x", "", "/v2/x"},
		{"a template", Rewrite{Path: "/$2/$1", Regex: regexp.MustCompile(`^/(\w+)/(\w+)$`)}, "/a/b", "", "/b/a"},
		{"a template stays a path", Rewrite{Path: "$1", Regex: regexp.MustCompile(`^/(.+)$`)}, "/evil.example/x", "", "/evil.example/x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(tt.rewrite.AppendTarget(nil, []byte(tt.path), []byte(tt.query), tt.query != "")); got != tt.want {
				t.Errorf("target = %q, want %q", got, tt.want)
			}
		})
	}
}
