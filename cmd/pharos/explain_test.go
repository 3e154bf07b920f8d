package main

import (
	"strings"
	"testing"
	"time"
)

func TestExplainTellsTheAgeOfEachReason(t *testing.T) {
	now := time.Date(2026, 11, 22, 5, 4, 3, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	var out strings.Builder
	explainTable(&out, "web", []explanationView{
		{Node: "n1", VIP: &vipView{Name: "web", Reasons: []reasonView{
			{Code: "probe_failed", Message: "no answer", Since: ago(1500 * time.Millisecond)},
			{Code: "disk_full", Message: "1 KiB left", Since: ago(90 * time.Minute)},
			{Code: "draining", Message: "the node's clock is ahead", Since: ago(-time.Minute)},
		}}},
		{Node: "n2", VIP: &vipView{Name: "web", Announcing: true, Neighbors: []string{"tor"}, Reasons: []reasonView{
			{Code: "too_few_healthy", Message: "pool app", Since: ago(time.Minute)},
		}}},
	}, now)
	for _, want := range []string{
		"probe_failed for 1.5s: no answer\n", "disk_full for 1h30m0s: 1 KiB left\n", "draining for 0s: ",
		"in spite of too_few_healthy for 1m0s: pool app\n", "1 of 2 nodes announce VIP web.\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}
