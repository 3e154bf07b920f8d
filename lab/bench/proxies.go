package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// proxy is one of those that are compared.
type proxy struct {
	name  string
	start func(ctx context.Context, b *box, c benchCase, cores string) (*process, error)
}

// proxies are in the order of their turns.
func proxies() []proxy {
	return []proxy{{"pharos", startPharos}, {"haproxy", startHAProxy}, {"nginx", startNginx}}
}

// The ports of the servers, on loopback.
var (
	backends     = []int{9001, 9002, 9003}
	grpcBackends = []int{9011, 9012, 9013}
)

// servers starts the servers behind the proxies: nginx, which is fast enough
// not to hold them up.
func (b *box) servers(ctx context.Context) error {
	www := filepath.Join(b.dir, "www")
	if err := os.MkdirAll(www, 0o755); err != nil {
		return err
	}
	for name, size := range map[string]int{"16k": 16 << 10, "1m": 1 << 20} {
		if err := os.WriteFile(filepath.Join(www, name), []byte(strings.Repeat("x", size)), 0o644); err != nil {
			return err
		}
	}
	var listens strings.Builder
	for _, port := range backends {
		fmt.Fprintf(&listens, "    listen 127.0.0.1:%d backlog=4096;\n", port)
	}
	config, err := b.file("servers.conf", fmt.Sprintf(`daemon off; master_process off; user root; pid %[1]s/servers.pid; error_log %[1]s/servers.err;
events { worker_connections 8000; }
http {
  access_log off; sendfile on; tcp_nopush off; open_file_cache max=10; keepalive_requests 1000000000; keepalive_timeout 75s;
  client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  server {
%[2]s    root %[1]s/www;
    location = /healthz { return 200; }
    location = /small { return 200 %[3]q; }
    location = /route2/small { return 200 %[3]q; }
  }
}
`, b.dir, listens.String(), strings.Repeat("x", 128)))
	if err != nil {
		return err
	}
	p, err := b.start("servers", "0,1", "nginx", "-c", config)
	if err != nil {
		return err
	}
	b.stop = append(b.stop, p.end)
	return p.listening(ctx, fmt.Sprintf("127.0.0.1:%d", backends[0]))
}

// The terms are the same for all three: ten routes to three pools of the three
// servers, checks every 2 s, a cookie in one pool, X-Forwarded-For, and a log
// of every request.

func startHAProxy(_ context.Context, b *box, c benchCase, cores string) (*process, error) {
	var s strings.Builder
	fmt.Fprintf(&s, `global
  nbthread %d
  maxconn %d
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option forwardfor
  timeout connect 2s
  timeout client 60s
  timeout server 60s
`, c.cores, max(7000, min(c.idle, b.idle("haproxy"))+100))
	if c.splice {
		s.WriteString("  option splice-auto\n")
	}
	fmt.Fprintf(&s, "frontend http\n  bind %[1]s:%[2]d backlog 4096\n  bind %[1]s:%[3]d backlog 4096 ssl crt %[4]s curves X25519:P-256 alpn h2,http/1.1\n", vip, httpPort, httpsPort, b.tls.both)
	for i := range 9 {
		fmt.Fprintf(&s, "  use_backend p%d if { path_beg /route%d/ }\n", i%3, i)
	}
	s.WriteString("  use_backend p1 if { hdr(host) other.example }\n  default_backend p0\n")
	for i := range 3 {
		fmt.Fprintf(&s, "backend p%d\n  balance roundrobin\n  option httpchk GET /healthz\n", i)
		if i == 2 {
			s.WriteString("  cookie SERVERID insert indirect nocache\n")
		}
		for j, port := range backends {
			fmt.Fprintf(&s, "  server s%d 127.0.0.1:%d check inter 2s fall 3 rise 5 cookie s%d\n", j, port, j)
		}
	}
	fmt.Fprintf(&s, "frontend tcp\n  mode tcp\n  option tcplog\n  bind %s:%d backlog 4096\n  default_backend t\nbackend t\n  mode tcp\n  balance roundrobin\n", vip, tcpPort)
	for j, port := range backends {
		fmt.Fprintf(&s, "  server s%d 127.0.0.1:%d check inter 2s\n", j, port)
	}
	fmt.Fprintf(&s, "frontend grpc\n  bind %s:%d backlog 4096 proto h2\n  default_backend g\nbackend g\n  balance roundrobin\n", vip, grpcPort)
	for j, port := range grpcBackends {
		fmt.Fprintf(&s, "  server s%d 127.0.0.1:%d check inter 2s proto h2\n", j, port)
	}
	config, err := b.file("haproxy.cfg", s.String())
	if err != nil {
		return nil, err
	}
	return b.start("haproxy", cores, "haproxy", "-db", "-f", config)
}

func startNginx(_ context.Context, b *box, c benchCase, cores string) (*process, error) {
	var s strings.Builder
	fmt.Fprintf(&s, `daemon off; user root; worker_processes %[2]d; pid %[1]s/nginx.pid; error_log %[1]s/nginx.err; 
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events { worker_connections %[3]d; }
http {
  access_log %[1]s/nginx.access combined buffer=32k; keepalive_requests 1000000000; keepalive_timeout 75s;
  client_body_temp_path %[1]s/n1; proxy_temp_path %[1]s/n2; fastcgi_temp_path %[1]s/n3; uwsgi_temp_path %[1]s/n4; scgi_temp_path %[1]s/n5;
  ssl_certificate %[4]s; ssl_certificate_key %[5]s; ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519:prime256v1; http2_max_requests 1000000000;
`, b.dir, c.cores, max(8000, c.idle+100), b.tls.chainFile, b.tls.keyFile)
	for i := range 3 {
		fmt.Fprintf(&s, "  upstream p%d {\n", i)
		for _, port := range backends {
			fmt.Fprintf(&s, "    server 127.0.0.1:%d;\n", port)
		}
		s.WriteString("    keepalive 256; keepalive_requests 1000000000;\n  }\n")
	}
	fmt.Fprintf(&s, "  server {\n    listen %[1]s:%[2]d backlog=4096;\n    listen %[1]s:%[3]d backlog=4096 ssl http2;\n    proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n", vip, httpPort, httpsPort)
	for i := range 9 {
		fmt.Fprintf(&s, "    location /route%d/ { proxy_pass http://p%d; }\n", i, i%3)
	}
	s.WriteString("    location / { proxy_pass http://p0; }\n  }\n  upstream g {\n")
	for _, port := range grpcBackends {
		fmt.Fprintf(&s, "    server 127.0.0.1:%d;\n", port)
	}
	fmt.Fprintf(&s, "    keepalive 256; keepalive_requests 1000000000;\n  }\n  server {\n    listen %s:%d backlog=4096 http2;\n    location / { grpc_pass grpc://g; }\n  }\n}\nstream {\n  upstream t {\n", vip, grpcPort)
	for _, port := range backends {
		fmt.Fprintf(&s, "    server 127.0.0.1:%d;\n", port)
	}
	fmt.Fprintf(&s, "  }\n  server { listen %s:%d backlog=4096; proxy_pass t; }\n}\n", vip, tcpPort)
	config, err := b.file("nginx.conf", s.String())
	if err != nil {
		return nil, err
	}
	return b.start("nginx", cores, "nginx", "-c", config)
}

func startPharos(ctx context.Context, b *box, c benchCase, cores string) (*process, error) {
	dir, err := os.MkdirTemp(b.dir, "pharos-")
	if err != nil {
		return nil, err
	}
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, b.o.Pharos, append(args, "--dir", dir)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pharos %s: %w: %s", args[0], err, out)
		}
		return nil
	}
	if err := run("init", "--name", "n1", "--address", "127.0.0.1"); err != nil {
		return nil, err
	}
	if b.o.Engine != "" {
		if err := appendTo(filepath.Join(dir, "pharos.yaml"), "engine: "+b.o.Engine+"\n"); err != nil {
			return nil, err
		}
	}
	config, err := b.file("cluster.yaml", b.pharosConfig())
	if err != nil {
		return nil, err
	}
	p, err := b.start("pharos", cores, b.o.Pharos, "serve", "--dir", dir)
	if err != nil {
		return nil, err
	}
	if err := p.listening(ctx, "127.0.0.1:7443"); err != nil {
		p.end()
		return nil, err
	}
	if err := run("apply", "-f", config, "--wait"); err != nil {
		p.end()
		return nil, fmt.Errorf("%w: %s", err, p.said())
	}
	return p, nil
}

func (b *box) pharosConfig() string {
	var s strings.Builder
	fmt.Fprintf(&s, "vips:\n  - {name: bench, addresses: [%s]}\n", vip)
	fmt.Fprintf(&s, "certificates:\n  - {name: bench, chain: %q, key: %q}\nlisteners:\n", b.tls.chain, b.tls.key)
	fmt.Fprintf(&s, "  - name: http\n    vip: bench\n    port: %d\n    protocol: http\n%s", httpPort, pharosRoutes())
	fmt.Fprintf(&s, "  - name: https\n    vip: bench\n    port: %d\n    protocol: https\n    tls: {certificates: [bench]}\n%s", httpsPort, pharosRoutes())
	fmt.Fprintf(&s, "  - {name: grpc, vip: bench, port: %d, protocol: http, pool: g}\n", grpcPort)
	fmt.Fprintf(&s, "  - {name: tcp, vip: bench, port: %d, protocol: tcp, pool: t, access_log: true}\npools:\n", tcpPort)
	pool := func(name, terms string, ports []int) {
		fmt.Fprintf(&s, "  - name: %s\n%s    servers:\n", name, terms)
		for j, port := range ports {
			fmt.Fprintf(&s, "      - {name: s%d, address: \"127.0.0.1:%d\"}\n", j, port)
		}
	}
	const asked = "    health_check: {http: /healthz, interval: 2s}\n"
	pool("p0", asked, backends)
	pool("p1", asked, backends)
	pool("p2", asked+"    persistence: {cookie: SERVERID, format: plain}\n", backends)
	pool("g", "    health_check: {interval: 2s}\n    http2: true\n", grpcBackends)
	pool("t", "    health_check: {interval: 2s}\n", backends)
	return s.String()
}

// pharosRoutes are those of one listener.
func pharosRoutes() string {
	var s strings.Builder
	s.WriteString("    pool: p0\n    routes:\n")
	for i := range 9 {
		fmt.Fprintf(&s, "      - {name: route%[1]d, path: /route%[1]d, pool: p%[2]d}\n", i, i%3)
	}
	s.WriteString("      - {name: other, hosts: [other.example], pool: p1}\n")
	return s.String()
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
