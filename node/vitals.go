package node

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/pharos-lb/pharos/cluster/member"
	"github.com/pharos-lb/pharos/cluster/registry"
	"github.com/pharos-lb/pharos/node/probe"
	"github.com/pharos-lb/pharos/proxy"
)

// vitals is what the reconciler needs of node/probe.
type vitals interface {
	// Follow has exactly these probed.
	Follow([]probe.Target)
	// Pause ends probing for a while; what was found out stands.
	Pause(bool)
	State() probe.State
	Changes() <-chan struct{}
}

// newVigil watches over a proxy and the disk of a directory.
func newVigil(p *proxy.Proxy, dir string, logger *slog.Logger) *probe.Vigil {
	return probe.New(probe.Config{
		Door: door{p}, Answers: probe.Answers{Word: proxy.ProbeWord, Status: proxy.ProbeStatus},
		Beat: p.Beat, Dir: dir, Logger: logger,
	})
}

// door announces probes to a proxy.
type door struct{ proxy *proxy.Proxy }

func (d door) Expect(k probe.Kind, port uint16) { d.proxy.ExpectProbe(transportOf(k), port) }
func (d door) Forget(k probe.Kind, port uint16) { d.proxy.ForgetProbe(transportOf(k), port) }

func transportOf(k probe.Kind) proxy.Transport {
	if k == probe.Datagram {
		return proxy.TransportUDP
	}
	return proxy.TransportTCP
}

// resumeProbes is how long after a hand-over a process waits before it probes: the
// other one has stopped accepting by then, and takes no probe for a client.
const resumeProbes = 2 * time.Second

// followProbes has what runs probed, unless another process has the same sockets,
// or nothing accepts.
func (r *reconciler) followProbes(now time.Time) {
	if r.vitals == nil {
		return
	}
	switch {
	case r.running == nil || r.drained || r.draining || r.stopping:
		r.vitals.Follow(nil)
		r.probed = nil
	case r.probed != r.running: // to look is dear where there are many listeners
		r.vitals.Follow(probeTargets(r.running.Snapshot.Config))
		r.probed = r.running
	}
	alone := r.frozen == thawed && !r.beside
	if !alone {
		r.probeFrom = now.Add(resumeProbes)
	}
	r.vitals.Pause(now.Before(r.probeFrom))
}

// observeVitals adds what the node has found out of itself. While it cannot probe,
// since the process before still accepts, nothing is said to be unproven: that one
// would not hand over what does not work.
func (r *reconciler) observeVitals(o *Observation, v registry.VIP, state probe.State) {
	o.Owed, o.Disk, o.Descriptors = state.Owed, state.Disk, state.Descriptors
	o.FailOpen = v.FailOpen == nil || *v.FailOpen
	if others := r.others.Load(); others != nil {
		o.OthersWell = (*others)(v.Name)
	}
	for _, l := range r.running.Snapshot.Config.Listeners {
		if l.VIP != v.Name {
			continue
		}
		for key, verdict := range state.Targets {
			if key.Listener != l.Name {
				continue
			}
			at := fmt.Sprintf("listener %s at %s", key.Listener, key.Address)
			switch {
			case verdict.Fallen:
				o.Fallen = append(o.Fallen, at+": "+verdict.Why)
			case !verdict.Proven && r.probeFrom.IsZero():
				o.Unproven = append(o.Unproven, at)
			}
		}
	}
}

// othersWell tells of a VIP whether a living member other than this node announces
// it, and nothing speaks against that, as far as heartbeats say.
func othersWell(members *member.Membership, self string) func(vip string) bool {
	return func(vip string) bool {
		for _, m := range members.Members() {
			if m.Name != self && m.Alive && m.Well(vip) {
				return true
			}
		}
		return false
	}
}
