package health

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		in   Config
		want map[string]string
	}{
		{"zero is all defaults", Config{}, nil},
		{"defaults are valid", Config{Outlier: &Outlier{}}.WithDefaults(), nil},
		{"off is valid", Config{Outlier: &Outlier{Consecutive5xx: -1, ConsecutiveErrors: -1}}, nil},
		{"the largest values", Config{Fall: 100, Rise: 100, Interval: time.Hour, Timeout: 10 * time.Second, SlowStart: 24 * time.Hour}, nil},
		{
			"every fault at once",
			Config{
				Fall: 101, Rise: -1, Interval: -time.Second, FastInterval: time.Microsecond, DownInterval: 2 * time.Hour, Timeout: 11 * time.Second,
				MaxFails: -1, FailTimeout: -1, SlowStart: time.Millisecond,
				Outlier: &Outlier{Consecutive5xx: -2, ConsecutiveErrors: -5, BaseEjection: -1, MaxEjection: 25 * time.Hour, MaxShare: 1.01},
			},
			map[string]string{
				"fall": "101 is not within 0 to 100", "rise": "-1 is not within 0 to 100",
				"interval": "-1s is not within 1ms to 1h0m0s", "fast_interval": "1µs is not within 1ms to 1h0m0s", "down_interval": "2h0m0s is not within 1ms to 1h0m0s",
				"timeout":   "11s is not within 1ms to 10s",
				"max_fails": "-1 is not within 0 to 1000000", "fail_timeout": "-1ns is not within 1ms to 24h0m0s", "slow_start": "1ms is not within 1s to 24h0m0s",
				"outlier.consecutive_5xx": "-2 is not within -1 to 1000000", "outlier.consecutive_errors": "-5 is not within -1 to 1000000",
				"outlier.base_ejection": "-1ns is not within 1ms to 24h0m0s", "outlier.max_ejection": "25h0m0s is not within 1ms to 24h0m0s",
				"outlier.max_share": "1.01 is not within 0 to 1",
			},
		},
		{"a longest ejection below the first", Config{Outlier: &Outlier{BaseEjection: 10 * time.Minute}}, map[string]string{"outlier.max_ejection": "5m0s is below the base ejection of 10m0s"}},
		{"no number", Config{Outlier: &Outlier{MaxShare: math.NaN()}}, map[string]string{"outlier.max_share": "NaN is not within 0 to 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got map[string]string
			tt.in.Validate(func(field, reason string) {
				if got == nil {
					got = map[string]string{}
				}
				if was, twice := got[field]; twice {
					t.Errorf("%s has a second fault: %q after %q", field, reason, was)
				}
				got[field] = reason
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithDefaults(t *testing.T) {
	tests := []struct {
		name     string
		in, want Config
	}{
		{"nothing set", Config{}, Config{
			Fall: 3, Rise: 5, Interval: 2 * time.Second, FastInterval: 2 * time.Second, DownInterval: 2 * time.Second, Timeout: 2 * time.Second, FailTimeout: 10 * time.Second,
		}},
		{"a long interval", Config{Interval: time.Minute, Outlier: &Outlier{Consecutive5xx: -1}}, Config{
			Fall: 3, Rise: 5, Interval: time.Minute, FastInterval: time.Minute, DownInterval: time.Minute, Timeout: 10 * time.Second, FailTimeout: 10 * time.Second,
			Outlier: &Outlier{Consecutive5xx: -1, ConsecutiveErrors: 5, BaseEjection: 30 * time.Second, MaxEjection: 5 * time.Minute, MaxShare: 0.5},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.in.WithDefaults()
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("WithDefaults (-want +got):\n%s", diff)
			}
			if tt.in.Outlier != nil && (got.Outlier == tt.in.Outlier || tt.in.Outlier.MaxShare != 0) {
				t.Error("the configuration that was given was changed")
			}
		})
	}
}
