package pool

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// rig is a pool that runs in virtual time.
type rig struct {
	*Pool
	t   *testing.T
	log *bytes.Buffer
}

// live runs f with a pool of this configuration that runs.
func live(t *testing.T, s Spec, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, log: &bytes.Buffer{}}
		r.Pool = New("web", slog.New(slog.NewTextHandler(r.log, nil)), func() {})
		r.Update(s)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.Run(ctx)
		}()
		r.after(0)
		f(r)
		cancel()
		<-ended
	})
}

// after lets time pass, and consequences be drawn.
func (r *rig) after(d time.Duration) {
	r.t.Helper()
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) server(name string) *Server {
	r.t.Helper()
	for _, m := range r.Members() {
		if m.Name == name {
			return m.Server
		}
	}
	r.t.Fatalf("there is no server %s", name)
	return nil
}

func (r *rig) member(name string) Member {
	r.t.Helper()
	for _, m := range r.Members() {
		if m.Name == name {
			return m
		}
	}
	r.t.Fatalf("there is no server %s", name)
	return Member{}
}

// send sends a request to a server, if it takes one.
func (r *rig) send(name string, o Outcome) bool {
	r.t.Helper()
	s := r.server(name)
	if !r.Begin(s) {
		return false
	}
	s.Connections.Add(1)
	r.End(s, o)
	synctest.Wait()
	return true
}

// takes lists who is there for new work, in the order of configuration.
func (r *rig) takes() string {
	r.t.Helper()
	got := map[string]bool{}
	for _, n := range walk(r.Pool) {
		got[n] = true
	}
	var in []string
	for _, m := range r.Members() {
		if got[m.Name] {
			in = append(in, m.Name)
		}
	}
	return strings.Join(in, " ")
}

func (r *rig) want(what, who string) {
	r.t.Helper()
	if got := r.takes(); got != who {
		r.t.Errorf("%s: work goes to %q, want %q", what, got, who)
	}
}

// logged counts the lines that contain a text.
func (r *rig) logged(text string) int { return strings.Count(r.log.String(), text) }

var (
	good   = Outcome{Kind: OK, Status: 200}
	bad    = Outcome{Kind: OK, Status: 503}
	broken = Outcome{Kind: Broken}
)
