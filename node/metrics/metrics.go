// Package metrics shows a node to Prometheus: what its parts say of themselves at
// the moment of a scrape, and nothing that is kept for it in between.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pharos-lb/pharos/bgp"
	"github.com/pharos-lb/pharos/bgp/bfd"
	"github.com/pharos-lb/pharos/cluster/lease/agent"
	"github.com/pharos-lb/pharos/node/holder"
	"github.com/pharos-lb/pharos/proxy"
)

// Snapshot is a node at one moment.
type Snapshot struct {
	Version   string // of the software
	Applied   uint64 // version of the configuration that runs; 0: none
	Failing   bool   // a newer one could not be applied
	Draining  bool
	HasLeader bool            // of Raft
	VIPs      map[string]bool // whether each is announced
	Sessions  []bgp.SessionStatus
	Sender    bfd.Sender // of BFD
	Proxy     proxy.Status
	Held      []holder.Status // VIPs in mode arp
	Leases    agent.Lateness
}

// Path is where metrics are.
const Path = "/metrics"

// Serve answers scrapes at address until ctx ends. It fails if it cannot listen.
func Serve(ctx context.Context, address string, snapshot func() Snapshot, logger *slog.Logger) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for scrapes: %w: name another address as metrics in the node file, or \"off\"", err)
	}
	s := &http.Server{
		Handler:           Handler(snapshot),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer scrapes: %w", err)
	}
	return nil
}

// Handler answers GET of Path.
func Handler(snapshot func() Snapshot) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		&node{snapshot},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return mux
}
