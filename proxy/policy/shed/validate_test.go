package shed

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// fields returns the fields of the faults in err, in order.
func fields(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T is not a joined error", err)
	}
	var fields []string
	for _, e := range joined.Unwrap() {
		var fe *policy.Fault
		if !errors.As(e, &fe) {
			t.Fatalf("%T is not a *policy.Fault", e)
		}
		fields = append(fields, fe.Field)
	}
	return fields
}

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		name string
		c    Config
		want []string
	}{
		{"all off", Config{}, nil},
		{"all set", Config{MaxInFlight: 100, ServerMaxInFlight: 50, Queue: 10, QueueTimeout: time.Second, Adaptive: &Adaptive{Min: 1, Max: 9, Tolerance: 2}, RetryBudget: 0.5, RetryMin: 1}, nil},
		{"no retries", Config{RetryBudget: -1}, nil},
		{"a maximum below the default minimum lowers that", Config{Adaptive: &Adaptive{Max: 5}}, nil},
		{"a pool below the default minimum", Config{MaxInFlight: 5, Adaptive: &Adaptive{}}, nil},
		{"every fault at once", Config{
			MaxInFlight: -1, ServerMaxInFlight: -1, Queue: -1, QueueTimeout: -1,
			Adaptive: &Adaptive{Min: -1, Max: -1, Tolerance: 0.5}, RetryBudget: 1.1, RetryMin: -1,
		}, []string{
			"max_in_flight", "server_max_in_flight", "queue", "queue_timeout", "retry_budget", "retry_min",
			"adaptive.min", "adaptive.max", "adaptive.tolerance",
		}},
		{"minimum above maximum", Config{Adaptive: &Adaptive{Min: 20, Max: 10}}, []string{"adaptive.min"}},
		{"minimum above the pool's", Config{MaxInFlight: 5, Adaptive: &Adaptive{Min: 6}}, []string{"adaptive.min"}},
		{"not numbers", Config{RetryBudget: math.NaN(), Adaptive: &Adaptive{Tolerance: math.NaN()}}, []string{"retry_budget", "adaptive.tolerance"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := fields(t, tt.c.Validate()); !slices.Equal(got, tt.want) {
				t.Errorf("faults in %v, want %v", got, tt.want)
			}
		})
	}
}

func TestFaultNamesItsField(t *testing.T) {
	err := Config{RetryBudget: 2}.Validate()
	if want := "retry_budget: 2 is not a share of at most 1"; err == nil || err.Error() != want {
		t.Errorf("fault is %v, want %q", err, want)
	}
}

func TestClientConfigValidate(t *testing.T) {
	tests := []struct {
		name string
		c    ClientConfig
		want []string
	}{
		{"all off", ClientConfig{}, nil},
		{"by header", ClientConfig{Key: ByHeader, Name: "X-API-Key", Rate: 100, Burst: 200}, nil},
		{"one a minute", ClientConfig{Rate: 1. / 60}, nil},
		{
			"every fault at once",
			ClientConfig{Key: "ip", Rate: -1, Burst: -1, Connections: -1, PrefixV6: 129, Table: -1},
			[]string{"key", "rate", "burst", "connections", "prefix_v6", "table"},
		},
		{"a cookie without its name", ClientConfig{Key: ByCookie}, []string{"name"}},
		{"a field that cannot be", ClientConfig{Key: ByHeader, Name: "x y"}, []string{"name"}},
		{"a name by address", ClientConfig{Name: "x"}, []string{"name"}},
		{"not a number", ClientConfig{Rate: math.NaN()}, []string{"rate"}},
		{"beyond numbers", ClientConfig{Rate: math.Inf(1)}, []string{"rate"}},
		{"takes days to refill", ClientConfig{Rate: 1, Burst: 100_000}, []string{"burst"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := fields(t, tt.c.Validate()); !slices.Equal(got, tt.want) {
				t.Errorf("faults in %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	c := Config{Adaptive: &Adaptive{}}
	got := c.WithDefaults()
	want := Config{QueueTimeout: time.Second, RetryBudget: 0.2, RetryMin: 10, Adaptive: &Adaptive{Min: 10, Max: 1000, Tolerance: 1.5}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Config (-want +got):\n%s", diff)
	}
	if *c.Adaptive != (Adaptive{}) {
		t.Error("WithDefaults wrote to what it was called on")
	}
	gotClient := ClientConfig{Rate: 0.5}.WithDefaults()
	wantClient := ClientConfig{Key: ByAddress, Rate: 0.5, Burst: 1, PrefixV6: 64, Table: 100_000}
	if diff := cmp.Diff(wantClient, gotClient); diff != "" {
		t.Errorf("ClientConfig (-want +got):\n%s", diff)
	}
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want int
	}{{-time.Second, 1}, {0, 1}, {time.Millisecond, 1}, {time.Second, 1}, {time.Second + 1, 2}, {1999 * time.Millisecond, 2}, {time.Hour, 3600}} {
		if got := RetryAfter(tt.d); got != tt.want {
			t.Errorf("RetryAfter(%v) = %d, want %d", tt.d, got, tt.want)
		}
	}
}
