package store

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// BenchmarkSpread measures, over three nodes with real bolt files in one
// process, from Submit until every node's state has the change.
func BenchmarkSpread(b *testing.B) {
	for _, c := range []struct {
		name   string
		adjust func(*Config)
	}{
		{"raft-default-50ms", func(c *Config) { c.NoNudge = true }},
		{"commit-timeout-5ms", func(c *Config) { c.NoNudge, c.CommitTimeout = true, 5*time.Millisecond }},
		{"commit-timeout-1ms", func(c *Config) { c.NoNudge, c.CommitTimeout = true, time.Millisecond }},
		{"nudge", func(*Config) {}},
	} {
		b.Run(c.name, func(b *testing.B) {
			nodes := cluster(b, 3, c.adjust)
			for len(nodes[0].Voters()) < 3 {
				b.Fatal("not three voters")
			}
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				address := fmt.Sprintf("192.0.2.1:%d", i%60000+1)
				at := time.Now()
				submit(b, nodes[0], put("x", address))
				for _, n := range nodes {
					await(b, n, address, func(s fsm.State) bool { return s.Members["x"].Address == address })
				}
				took = append(took, time.Since(at))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
		})
	}
}

// BenchmarkIdle measures the CPU that three idle nodes take, in percent of one
// core for all three. One iteration is a second.
func BenchmarkIdle(b *testing.B) {
	for _, timeout := range []time.Duration{50 * time.Millisecond, 5 * time.Millisecond, time.Millisecond} {
		b.Run(fmt.Sprintf("commit-timeout-%s", timeout), func(b *testing.B) {
			cluster(b, 3, func(c *Config) { c.CommitTimeout, c.HeartbeatTimeout = timeout, 0 })
			start, before := time.Now(), cpu(b)
			for b.Loop() {
				time.Sleep(time.Second) // what is measured is what happens meanwhile
			}
			b.ReportMetric(100*float64(cpu(b)-before)/float64(time.Since(start)), "%core")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
