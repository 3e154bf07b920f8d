package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"strings"

	"github.com/pharos-lb/pharos/cluster/api"
)

// configTable draws the things of one kind, or, if that is empty, of all.
func configTable(w io.Writer, kind string, snapshot api.Snapshot) {
	config := snapshot.Config
	if kind == "" {
		fmt.Fprintf(w, "version %d\n", snapshot.Version)
	}
	for _, section := range []struct {
		kind string
		rare bool // left out of the whole where there is none
		draw func(io.Writer, api.Configuration)
	}{
		{"vip", false, vipTable},
		{"neighbor", false, neighborTable},
		{"certificate", len(config.Certificates) == 0, certificateTable},
		{"listener", false, listenerTable},
		{"route", !hasRoutes(config), routeTable},
		{"pool", false, poolTable},
		{"server", false, configuredServerTable},
	} {
		switch {
		case kind == "" && !section.rare:
			fmt.Fprintln(w)
			section.draw(w, config)
		case kind == section.kind:
			section.draw(w, config)
		}
	}
}

func hasRoutes(config api.Configuration) bool {
	for _, l := range config.Listeners {
		if len(l.Routes) > 0 {
			return true
		}
	}
	return false
}

func vipTable(w io.Writer, config api.Configuration) {
	row(w, "VIP", "MODE", "ADDRESSES")
	for _, v := range config.VIPs {
		row(w, v.Name, v.Mode, list(v.Addresses))
	}
}

func neighborTable(w io.Writer, config api.Configuration) {
	row(w, "NEIGHBOR", "ADDRESS", "ASN", "LOCAL ASN", "NODES")
	for _, n := range config.Neighbors {
		row(w, n.Name, n.Address, n.ASN, n.LocalASN, list(n.Nodes))
	}
}

func certificateTable(w io.Writer, config api.Configuration) {
	row(w, "CERTIFICATE", "FOR", "ENDS", "OCSP")
	for _, c := range config.Certificates {
		names, ends := "?", "?"
		if block, _ := pem.Decode([]byte(c.Chain)); block != nil {
			if leaf, err := x509.ParseCertificate(block.Bytes); err == nil {
				names, ends = subjects(leaf), clock(&leaf.NotAfter)
			}
		}
		row(w, c.Name, names, ends, yesNo(len(c.OCSP) > 0))
	}
}

// subjects are the first few names that a certificate is for.
func subjects(leaf *x509.Certificate) string {
	const most = 3
	names := leaf.DNSNames
	for _, a := range leaf.IPAddresses {
		names = append(names, a.String())
	}
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", list(names[:most]), len(names)-most)
	}
	return list(names)
}

func listenerTable(w io.Writer, config api.Configuration) {
	row(w, "LISTENER", "VIP", "PORT", "PROTOCOL", "POOL")
	for _, l := range config.Listeners {
		row(w, l.Name, l.VIP, l.Port, l.Protocol, l.Pool)
	}
}

func routeTable(w io.Writer, config api.Configuration) {
	row(w, "ROUTE", "HOSTS", "PATH", "OTHER CONDITIONS", "TO")
	for _, l := range config.Listeners {
		for _, r := range l.Routes {
			row(w, l.Name+"/"+r.Name, list(r.Hosts), routePath(r), list(otherConditions(r)), routeTarget(r))
		}
	}
}

func routePath(r api.Route) string {
	switch {
	case r.PathExact != "":
		return "= " + r.PathExact
	case r.PathRegex != "":
		return "~ " + r.PathRegex
	default:
		return r.Path
	}
}

// otherConditions names the conditions that have no column of their own.
func otherConditions(r api.Route) []string {
	var all []string
	for _, c := range []struct {
		what string
		n    int
	}{
		{"methods", len(r.Methods)},
		{"headers", len(r.Headers)},
		{"cookies", len(r.Cookies)},
		{"query", len(r.Query)},
		{"sources", len(r.Sources)},
	} {
		if c.n > 0 {
			all = append(all, c.what)
		}
	}
	return all
}

func routeTarget(r api.Route) string {
	switch {
	case r.Redirect != nil:
		return "redirect"
	case r.Respond != nil:
		return fmt.Sprintf("respond %d", r.Respond.Status)
	case len(r.Split) > 0:
		var shares []string
		for _, s := range r.Split {
			shares = append(shares, fmt.Sprintf("%s:%d", s.Pool, s.Weight))
		}
		return "pools " + strings.Join(shares, ", ")
	default:
		return "pool " + r.Pool
	}
}

func poolTable(w io.Writer, config api.Configuration) {
	row(w, "POOL", "BALANCE", "CHECK", "SERVERS")
	for _, p := range config.Pools {
		row(w, p.Name, p.Balance, checkWords(p.HealthCheck), len(p.Servers))
	}
}

func checkWords(h *api.HealthCheck) string {
	switch {
	case h == nil:
		return "none"
	case h.GRPC != nil:
		return fmt.Sprintf("grpc every %s", h.Interval)
	case h.HTTP != "":
		return fmt.Sprintf("http %s every %s", h.HTTP, h.Interval)
	default:
		return fmt.Sprintf("tcp every %s", h.Interval)
	}
}

func configuredServerTable(w io.Writer, config api.Configuration) {
	row(w, "SERVER", "ADDRESS", "WEIGHT", "BACKUP")
	for _, p := range config.Pools {
		for _, s := range p.Servers {
			weight := 1
			if s.Weight != nil {
				weight = *s.Weight
			}
			row(w, p.Name+"/"+s.Name, s.Address, weight, yesNo(s.Backup))
		}
	}
}
