package l4

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/maphash"
	"log/slog"
	"testing"
	"time"

	"github.com/pharos-lb/pharos/proxy/accesslog"
	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/inmem"
	"github.com/pharos-lb/pharos/proxy/policy/health"
	"github.com/pharos-lb/pharos/proxy/policy/shed"
	"github.com/pharos-lb/pharos/proxy/pool"
	"github.com/pharos-lb/pharos/proxy/site"
)

var seed = maphash.MakeSeed()

// logs makes b's forwarder one that logs.
func (b *bench) logs() {
	b.out = new(bytes.Buffer)
	b.log = accesslog.New(b.out)
	b.f = New(slog.New(slog.DiscardHandler), b.log, []engine.Loop{b.loop})
}

// lines are those logged so far.
func (b *bench) lines() []map[string]any {
	b.t.Helper()
	b.loop.Advance(flushLogEvery + time.Second)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.log.Run(ctx, func(err error) { b.t.Error(err) })
	var lines []map[string]any
	for _, text := range bytes.Split(bytes.TrimSpace(b.out.Bytes()), []byte("\n")) {
		if len(text) == 0 {
			continue
		}
		line := make(map[string]any)
		if err := json.Unmarshal(text, &line); err != nil {
			b.t.Fatalf("%v: %s", err, text)
		}
		lines = append(lines, line)
	}
	return lines
}

// update changes b's pool.
func (b *bench) update(change func(*pool.Spec)) {
	spec := pool.Spec{FailOpen: true, Servers: []pool.ServerSpec{{Name: "a", Address: first, Weight: 1}, {Name: "b", Address: second, Weight: 1}}}
	change(&spec)
	b.pool.Update(spec)
}

func TestPoolsQueue(t *testing.T) {
	for name, row := range map[string]struct {
		then func(b *bench, holder, waiter *inmem.Peer)
		why  string // of the waiter; empty: it is served
	}{
		"its turn comes": {then: func(b *bench, holder, waiter *inmem.Peer) {
			holder.Abort()
			b.loop.Run()
		}},
		"nobody leaves": {then: func(b *bench, holder, waiter *inmem.Peer) {
			b.loop.Advance(6 * time.Second)
		}, why: "queue-timeout"},
		"it leaves": {then: func(b *bench, holder, waiter *inmem.Peer) {
			waiter.Abort()
			b.loop.Run()
		}, why: "client-gone"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.logs()
			b.l.SetSite(&site.Site{Pool: b.pool, Stream: site.Stream{Idle: testIdle, Log: true}})
			b.update(func(s *pool.Spec) { s.Limits = shed.Config{MaxInFlight: 1, Queue: 1, QueueTimeout: 5 * time.Second} })
			holder := b.connect()
			b.loop.Run()
			waiter := b.connect()
			waiter.Write("hello")
			b.loop.Run()
			third := b.connect()
			b.loop.Run()
			if !third.Reset {
				t.Error("a third one was taken, and the queue is of one")
			}
			if waiter.Reset || len(b.dialed) != 1 {
				t.Fatalf("while it waits: reset %v, dialled %v", waiter.Reset, b.dialed)
			}
			row.then(b, holder, waiter)
			lines := b.lines()
			if lines[0]["why"] != "queue-full" {
				t.Errorf("the third one's line says %v", lines[0])
			}
			last := lines[len(lines)-1]
			switch row.why {
			case "":
				if waiter.Reset || b.server.Read() != "hello" {
					t.Error("it is not served")
				}
				waiter.Abort()
			default:
				if last["why"] != row.why || len(b.dialed) != 1 {
					t.Errorf("the line says %v, dialled %v; want %s", last, b.dialed, row.why)
				}
				holder.Abort()
			}
			b.loop.Run()
			if n := b.pool.Gate().InFlight(); n != 0 {
				t.Errorf("%d slots of the pool are held at the end", n)
			}
		})
	}
}

func TestAFullServerIsPassedOver(t *testing.T) {
	b := newBench(t)
	b.logs()
	b.l.SetSite(&site.Site{Pool: b.pool, Stream: site.Stream{Idle: testIdle, Log: true}})
	b.update(func(s *pool.Spec) { s.Servers[0].MaxInFlight = 1; s.Servers[1].Weight = 0 })
	b.connect()
	b.loop.Run()
	b.update(func(s *pool.Spec) { s.Servers[0].MaxInFlight = 1 })
	for range 4 {
		b.connect()
		b.loop.Run()
	}
	if n, m := b.pool.Members()[0].InFlight.Load(), b.pool.Members()[1].InFlight.Load(); n != 1 || m != 4 {
		t.Errorf("%d and %d connections, want 1 and 4", n, m)
	}
}

// Servers that refuse, or break connections without a word, are taken out;
// those that end what they have begun are not, and neither is a server for what
// clients do.
func TestOutcomes(t *testing.T) {
	for name, row := range map[string]struct {
		do  func(b *bench, client, server *inmem.Peer)
		out bool
	}{
		"it breaks at once":           {func(b *bench, _, server *inmem.Peer) { server.Abort() }, true},
		"it breaks what it has begun": {func(b *bench, _, server *inmem.Peer) { server.Write("x"); b.loop.Run(); server.Abort() }, false},
		"it closes without a word":    {func(b *bench, client, server *inmem.Peer) { client.CloseWrite(); server.CloseWrite() }, false},
		"it refuses what comes after": {func(b *bench, client, server *inmem.Peer) {
			server.Write("x")
			server.CloseWrite()
			b.loop.Run()
			client.Write("more")
			server.Abort()
			b.loop.Run()
			if client.Reset || client.Read() != "x" {
				b.t.Error("the client did not get its answer whole")
			}
		}, false},
		"the client leaves at once":      {func(b *bench, client, _ *inmem.Peer) { client.Abort() }, false},
		"the connection becomes idle":    {func(b *bench, _, _ *inmem.Peer) { b.loop.Advance(2 * testIdle) }, false},
		"the client leaves in the midst": {func(b *bench, client, server *inmem.Peer) { server.Write("x"); b.loop.Run(); client.Abort() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.update(func(s *pool.Spec) { s.Health = health.Config{MaxFails: 1, FailTimeout: time.Hour} })
			client, server := b.relayed()
			at := b.pool.Members()[0].Server
			if at.InFlight.Load() == 0 {
				at = b.pool.Members()[1].Server
			}
			row.do(b, client, server)
			b.loop.Run()
			if out := !at.Health().Healthy; out != row.out {
				t.Errorf("the server is out: %v, want %v", out, row.out)
			}
		})
	}
}

func TestRefusedConnectsTakeAServerOut(t *testing.T) {
	b := newBench(t)
	b.update(func(s *pool.Spec) { s.Health = health.Config{MaxFails: 1, FailTimeout: time.Hour} })
	b.dead[first] = true
	for range 2 {
		b.connect()
		b.loop.Run()
	}
	if b.pool.Members()[0].Health().Healthy || !b.pool.Members()[1].Health().Healthy {
		t.Error("the dead server counts as healthy, or the other one does not")
	}
	if n := b.pool.Members()[1].InFlight.Load(); n != 2 {
		t.Errorf("%d connections at the living one, want 2", n)
	}
}

func TestLogLineOfAConnection(t *testing.T) {
	b := newBench(t)
	b.logs()
	b.l.SetSite(&site.Site{Pool: b.pool, Stream: site.Stream{Idle: testIdle, Log: true}})
	b.dead[first] = true
	for range 2 { // one of them begins at the dead one
		b.server = nil
		client, server := b.relayed()
		client.Write("question")
		client.CloseWrite()
		server.Write("an answer")
		server.CloseWrite()
		b.loop.Advance(2 * time.Second)
	}
	lines := b.lines()
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	tries := 0.0
	for _, line := range lines {
		for field, want := range map[string]any{
			"listener": "front", "client": clientAddress.String(), "protocol": "tcp", "pool": "p", "server": "b",
			"bytes_in": 8.0, "bytes_out": 9.0, "why": nil, "status": nil, "host": nil,
		} {
			if line[field] != want {
				t.Errorf("%s is %v, want %v", field, line[field], want)
			}
		}
		if n, ok := line["tries"].(float64); ok {
			tries += n
		}
	}
	if tries != 2 {
		t.Errorf("the lines tell of %v tries beyond the first, want of one line with 2", tries)
	}
}
