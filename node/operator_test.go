package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/cluster/fsm"
	"github.com/pharos-lb/pharos/proxy"
	"github.com/pharos-lb/pharos/proxy/policy/health"
)

func TestWithOperator(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	nothing := 0
	in := func() proxy.Config {
		return proxy.Config{
			Listeners: []proxy.Listener{{Name: "l"}},
			Pools: []proxy.Pool{
				{Name: "p", Servers: []proxy.Server{{Name: "a", Weight: 3}, {Name: "b", Weight: 1, Backup: true}}},
				{Name: "q", Servers: []proxy.Server{{Name: "a", Weight: 2}}},
			},
		}
	}
	for _, test := range []struct {
		name    string
		servers map[string]fsm.Server
		want    func(*proxy.Config)
	}{
		{"nothing", nil, func(*proxy.Config) {}},
		{"id and time", map[string]fsm.Server{"p/a": {ID: "u", Created: noon}}, func(c *proxy.Config) {
			c.Pools[0].Servers[0].ID, c.Pools[0].Servers[0].Created = "u", noon
		}},
		{"states, each of its own pool", map[string]fsm.Server{"p/a": {State: fsm.ServerDraining}, "q/a": {State: fsm.ServerMaintenance}}, func(c *proxy.Config) {
			c.Pools[0].Servers[0].State, c.Pools[1].Servers[0].State = health.Draining, health.Maintenance
		}},
		{"a weight of 0 is a weight", map[string]fsm.Server{"p/b": {Weight: &nothing}}, func(c *proxy.Config) { c.Pools[0].Servers[1].Weight = 0 }},
		{"a server that is not configured", map[string]fsm.Server{"p/z": {State: fsm.ServerDraining}}, func(*proxy.Config) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, want := in(), in()
			test.want(&want)
			if diff := cmp.Diff(want, withOperator(c, test.servers), equateAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(in(), c, equateAddrs); diff != "" {
				t.Errorf("it changed what it was given:\n%s", diff)
			}
		})
	}
}

// drained is a Desired in which the operator drains the one server.
func drained(d fsm.Desired, revision uint64) fsm.Desired {
	d.Revision = revision
	d.Servers = map[string]fsm.Server{"app/b1": {ID: "u", State: fsm.ServerDraining}}
	return d
}

func TestAnOperatorsWordIsCarriedOutWithoutANewConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a"))
		p.take()
		r.Offer(drained(oneVIP(1, "a"), 2))
		synctest.Wait()
		if got := p.running.Pools[0].Servers[0].State; got != health.Draining {
			t.Errorf("the server's state is %q", got)
		}
		revision, failure, err := r.WaitApplied(t.Context(), 2)
		if revision != 2 || failure != nil || err != nil {
			t.Errorf("revision %d, %v, %v", revision, failure, err)
		}
		if v := r.View(); v.Version != 1 || v.Desired.Servers["app/b1"].ID != "u" {
			t.Errorf("view: %+v", v)
		}
		if got := fmt.Sprint(p.saved); got != "[1 2]" {
			t.Errorf("kept on disk: %s", got)
		}
	})
}

func TestAnOperatorsWordHoldsWhereTheNewConfigurationCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts()
		r := reconcilerFor(t, p, false)
		r.Offer(oneVIP(1, "a"))
		p.take()
		p.refuse = func(c proxy.Config) error {
			if len(c.Listeners) > 1 {
				return errors.New("port 80 is taken")
			}
			return nil
		}
		r.Offer(oneVIP(2, "a", "b"))
		p.take()
		r.Offer(drained(oneVIP(2, "a", "b"), 3))
		synctest.Wait()
		if got := p.running.Pools[0].Servers[0]; got.State != health.Draining || len(p.running.Listeners) != 1 {
			t.Errorf("the server is %+v, with %d listeners", got, len(p.running.Listeners))
		}
		revision, failure, err := r.WaitApplied(t.Context(), 3)
		if revision != 1 || failure == nil || !strings.Contains(failure.Error(), "taken") || err != nil {
			t.Errorf("revision %d, %v, %v", revision, failure, err)
		}
		p.mu.Lock()
		p.refuse = nil
		p.mu.Unlock()
		time.Sleep(retryInterval + stepInterval)
		if v := r.View(); v.Version != 2 || v.Revision != 3 || v.FailedRevision != 0 || p.running.Pools[0].Servers[0].State != health.Draining {
			t.Errorf("after the port was freed: %+v", v)
		}
	})
}
