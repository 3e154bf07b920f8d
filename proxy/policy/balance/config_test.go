package balance

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/proxy/policy"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		want   []string // fields
	}{
		{"nothing set", Config{}, nil},
		{"header", Config{Algorithm: HeaderHash, HashName: "X-Tenant", HashBound: 1.01}, nil},
		{"cookie", Config{Algorithm: CookieHash, HashName: "sid", HashBound: 10}, nil},
		{"source", Config{Algorithm: SourceHash, HashBound: 1.5}, nil},
		{"latency", Config{Algorithm: Latency, LatencyDecay: 5 * time.Second}, nil},
		{"unknown", Config{Algorithm: "fastest"}, []string{"algorithm"}},
		{"unknown, with a hash's fields", Config{Algorithm: "hash", HashName: "a b", HashBound: 1.5}, []string{"algorithm", "hash_name"}},
		{"a name is missing", Config{Algorithm: HeaderHash}, []string{"hash_name"}},
		{"a name that is none", Config{Algorithm: CookieHash, HashName: "a b"}, []string{"hash_name"}},
		{"a name that is too long", Config{Algorithm: CookieHash, HashName: strings.Repeat("a", 257)}, []string{"hash_name"}},
		{"a name for nothing", Config{Algorithm: URIHash, HashName: "x"}, []string{"hash_name"}},
		{"a bound too low", Config{Algorithm: URIHash, HashBound: 1}, []string{"hash_bound"}},
		{"a bound too high", Config{Algorithm: URIHash, HashBound: 10.5}, []string{"hash_bound"}},
		{"a bound that is no number", Config{Algorithm: URIHash, HashBound: math.NaN()}, []string{"hash_bound"}},
		{"a bound for nothing", Config{Algorithm: LeastConn, HashBound: 1.5}, []string{"hash_bound"}},
		{"a decay too short", Config{Algorithm: Latency, LatencyDecay: time.Millisecond}, []string{"latency_decay"}},
		{"a decay too long", Config{Algorithm: Latency, LatencyDecay: time.Hour}, []string{"latency_decay"}},
		{"all at once", Config{Algorithm: LeastConn, HashName: "x", HashBound: 2, LatencyDecay: time.Second}, []string{"hash_name", "hash_bound", "latency_decay"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.config.Validate()
			var got []string
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				for _, err := range joined.Unwrap() {
					var fault *policy.Fault
					if !errors.As(err, &fault) || fault.Reason == "" {
						t.Fatalf("%v is no *policy.Fault with a reason", err)
					}
					got = append(got, fault.Field)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s\n%v", diff, err)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	want := Config{Algorithm: RoundRobinName, HashBound: 1.25, LatencyDecay: 10 * time.Second}
	if diff := cmp.Diff(want, Config{}.WithDefaults()); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	set := Config{Algorithm: CookieHash, HashName: "s", HashBound: 2, LatencyDecay: time.Second}
	if diff := cmp.Diff(set, set.WithDefaults()); diff != "" {
		t.Errorf("what is set does not stay (-want +got):\n%s", diff)
	}
}
