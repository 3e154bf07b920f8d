package l7

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/policy/route"
	"github.com/pharos-lb/pharos/proxy/site"
)

// serve makes a change to the rig's site.
func (r *rig) serve(change func(*site.Site)) {
	s := *r.l.Site()
	change(&s)
	r.l.SetSite(&s)
}

// routes puts rules on the rig's site.
func (r *rig) routes(t *testing.T, rules ...site.Rule) {
	t.Helper()
	var matches []route.Rule
	for i := range rules {
		matches = append(matches, rules[i].Match)
	}
	table, err := route.Compile(matches)
	if err != nil {
		t.Fatal(err)
	}
	r.serve(func(s *site.Site) { s.Table, s.Rules = table, rules })
}

// lines are the lines of a head, without those that differ from run to run.
func lines(head string) []string {
	head, _, _ = strings.Cut(head, "\r\n\r\n")
	var out []string
	for _, l := range strings.Split(head, "\r\n") {
		if !strings.HasPrefix(l, "Date: ") {
			out = append(out, l)
		}
	}
	return out
}

func TestRequestHead(t *testing.T) {
	inside := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.0.0.0/8")}
	const forged = "X-Forwarded-For: 203.0.113.9, 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=9.9.9.9\r\n"
	tests := []struct {
		name   string
		http   func(*site.HTTP)
		rule   *site.Rule
		target string
		fields string
		want   []string // the request line and all fields but Host
	}{
		{"the client is named", nil, nil, "/", "A: 1\r\n", []string{
			"GET / HTTP/1.1", "A: 1", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: x",
		}},
		{"forwarding fields of a stranger are replaced", nil, nil, "/", forged, []string{
			"GET / HTTP/1.1", "X-Forwarded-For: 203.0.113.9, 10.1.1.1, 192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: x",
		}},
		{"those of a trusted source are believed", func(h *site.HTTP) { h.Trusted = inside }, nil, "/", forged, []string{
			"GET / HTTP/1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example", "Forwarded: for=9.9.9.9",
			"X-Forwarded-For: 203.0.113.9, 10.1.1.1, 192.0.2.1", "X-Real-IP: 203.0.113.9",
		}},
		{"Forwarded is made and continued", func(h *site.HTTP) { h.Trusted, h.Forwarded = inside, true }, nil, "/", "Forwarded: for=9.9.9.9\r\n", []string{
			"GET / HTTP/1.1", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: x",
			"Forwarded: for=9.9.9.9, for=192.0.2.1;host=\"x\";proto=http",
		}},
		{"a stranger's Forwarded is not continued", func(h *site.HTTP) { h.Forwarded = true }, nil, "/", "Forwarded: for=9.9.9.9\r\n", []string{
			"GET / HTTP/1.1", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: x",
			"Forwarded: for=192.0.2.1;host=\"x\";proto=http",
		}},
		{"by TLS, with Via", func(h *site.HTTP) { h.Secure, h.Via = true, "edge" }, nil, "/", "", []string{
			"GET / HTTP/1.1", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: x", "Via: 1.1 edge",
		}},
		{"a name with an underscore is dropped", nil, nil, "/", "A_B: 1\r\n", []string{
			"GET / HTTP/1.1", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: x",
		}},
		{"or kept", func(h *site.HTTP) { h.Underscores = site.KeepUnderscores }, nil, "/", "A_B: 1\r\n", []string{
			"GET / HTTP/1.1", "A_B: 1", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: x",
		}},
		{"a rule rewrites path, host and fields", nil, &site.Rule{
			Match: route.Rule{Path: "/v1"},
			Rewrite: &site.Rewrite{Path: "/api", Prefix: "/v1", Host: "inner", Request: site.Edits{
				Set: []http1.Field{site.Field("A", "set")}, Add: []http1.Field{site.Field("B", "2")}, Remove: []string{"c"},
			}},
		}, "/v1/x?q=1", "A: 1\r\nB: 1\r\nC: 1\r\n", []string{
			"GET /api/x?q=1 HTTP/1.1", "B: 1", "X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: x", "A: set", "B: 2",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig()
			if tt.http != nil {
				r.serve(func(s *site.Site) { tt.http(&s.HTTP) })
			}
			if tt.rule != nil {
				tt.rule.Targets = append(tt.rule.Targets, r.pool)
				r.routes(t, *tt.rule)
			}
			c := r.client()
			c.Write("GET " + tt.target + " HTTP/1.1\r\nHost: x\r\n" + tt.fields + "\r\n")
			r.loop.Run()
			got := lines(r.server(t, 0).Read())
			host := "Host: x"
			if tt.rule != nil {
				host = "Host: inner"
			}
			if len(got) < 2 || got[1] != host {
				t.Fatalf("head = %q, want %q second", got, host)
			}
			if diff := cmp.Diff(tt.want, append(got[:1:1], got[2:]...)); diff != "" {
				t.Errorf("head (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswersOfTheProxy(t *testing.T) {
	tests := []struct {
		name    string
		site    func(*site.Site)
		rules   []site.Rule
		request string
		want    []string
		body    string
	}{
		{"no route", func(s *site.Site) { s.Pool = nil }, nil, get, []string{
			"HTTP/1.1 404 Not Found", "Cache-Control: no-store", `Proxy-Status: pharos; error=destination_not_found; details="no-route"`,
			"Content-Type: text/plain; charset=utf-8", "Content-Length: 14",
		}, "404 Not Found\n"},
		{"with a page of the site's", func(s *site.Site) {
			s.Pool, s.HTTP.Pages = nil, map[int]site.Page{404: {Type: "text/html", Body: []byte("<p>gone")}}
		}, nil, get, []string{
			"HTTP/1.1 404 Not Found", "Cache-Control: no-store", `Proxy-Status: pharos; error=destination_not_found; details="no-route"`,
			"Content-Type: text/html", "Content-Length: 7",
		}, "<p>gone"},
		{"to HTTPS, with HSTS", func(s *site.Site) {
			s.Pool, s.HTTP.RedirectHTTPS, s.HTTP.HSTS = nil, &site.Redirect{Status: 308, Scheme: "https"}, []byte("max-age=1")
		}, nil, "GET /a?b HTTP/1.1\r\nHost: X.example:8080\r\n\r\n", []string{
			"HTTP/1.1 308 Permanent Redirect", "Strict-Transport-Security: max-age=1", "Location: https://x.example/a?b", "Content-Length: 0",
		}, ""},
		{"a redirect of a route", nil, []site.Rule{{Match: route.Rule{Path: "/old"}, Redirect: &site.Redirect{
			Status: 302, Host: "y", Port: 81, Path: "/new", Prefix: "/old",
		}}}, "GET /old/x HTTP/1.1\r\nHost: x\r\n\r\n", []string{
			"HTTP/1.1 302 Found", "Location: http://y:81/new/x", "Content-Length: 0",
		}, ""},
		{"a fixed response", nil, []site.Rule{{Respond: &site.Respond{
			Status: 403, Type: "text/plain", Body: []byte("no"), Headers: []http1.Field{site.Field("X-Why", "maintenance")},
		}}}, get, []string{
			"HTTP/1.1 403 Forbidden", "Content-Type: text/plain", "X-Why: maintenance", "Content-Length: 2",
		}, "no"},
		{"HEAD has no body", nil, []site.Rule{{Respond: &site.Respond{Status: 200, Body: []byte("no")}}}, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", []string{
			"HTTP/1.1 200 OK", "Content-Length: 2",
		}, ""},
		{"a body that is too large", func(s *site.Site) { s.HTTP.MaxBody = 3 }, nil, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", []string{
			"HTTP/1.1 413 Content Too Large", "Cache-Control: no-store", `Proxy-Status: pharos; error=http_request_error; details="request-too-large"`,
			"Content-Type: text/plain; charset=utf-8", "Content-Length: 22", "Connection: close",
		}, "413 Content Too Large\n"},
		{"a name with an underscore, refused", func(s *site.Site) { s.HTTP.Underscores = site.RefuseUnderscores }, nil, "GET / HTTP/1.1\r\nHost: x\r\na_b: 1\r\n\r\n", []string{
			"HTTP/1.1 400 Bad Request", "Cache-Control: no-store", `Proxy-Status: pharos; error=http_request_error; details="malformed-request"`,
			"Content-Type: text/plain; charset=utf-8", "Content-Length: 16",
		}, "400 Bad Request\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig()
			if len(tt.rules) > 0 {
				r.routes(t, tt.rules...)
			}
			if tt.site != nil {
				r.serve(tt.site)
			}
			c := r.client()
			c.Write(tt.request)
			r.loop.Run()
			got := c.Read()
			if diff := cmp.Diff(tt.want, lines(got)); diff != "" {
				t.Errorf("head (-want +got):\n%s", diff)
			}
			if _, body, _ := strings.Cut(got, "\r\n\r\n"); body != tt.body {
				t.Errorf("body = %q, want %q", body, tt.body)
			}
			if len(r.servers) != 0 {
				t.Error("a server was asked")
			}
			r.settled(t)
		})
	}
}

// A chunked body says nothing of its length: it is cut off where it passes the
// limit.
func TestABodyThatTurnsOutTooLarge(t *testing.T) {
	r := newRig()
	r.serve(func(s *site.Site) { s.HTTP.MaxBody = 3 })
	c := r.client()
	c.Write("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	r.loop.Run()
	if got := c.Read(); got != "" {
		t.Fatalf("answer %q to a body at the limit", got)
	}
	c.Write("1\r\nd\r\n")
	r.loop.Run()
	if got := c.Read(); !strings.HasPrefix(got, "HTTP/1.1 413 ") || !c.EOF {
		t.Errorf("answer %q, closed %v", got, c.EOF)
	}
	if !r.server(t, 0).Reset {
		t.Error("the server was not told that the body is incomplete")
	}
	r.settled(t)
}

func TestResponseHead(t *testing.T) {
	tests := []struct {
		name     string
		http     func(*site.HTTP)
		rewrite  *site.Rewrite
		response string
		want     []string
	}{
		{"Date is added", nil, nil, "A: 1\r\n", []string{"HTTP/1.1 200 OK", "A: 1", "Content-Length: 0"}},
		{"HSTS and Via", func(h *site.HTTP) { h.HSTS, h.Via = []byte("max-age=1"), "edge" }, nil, "", []string{
			"HTTP/1.1 200 OK", "Content-Length: 0", "Strict-Transport-Security: max-age=1", "Via: 1.1 edge",
		}},
		{"a rule changes fields", nil, &site.Rewrite{Response: site.Edits{
			Set: []http1.Field{site.Field("Server", "pharos")}, Add: []http1.Field{site.Field("A", "2")}, Remove: []string{"x-powered-by"},
		}}, "Server: old\r\nX-Powered-By: y\r\nA: 1\r\n", []string{"HTTP/1.1 200 OK", "A: 1", "Content-Length: 0", "Server: pharos", "A: 2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig()
			if tt.http != nil {
				r.serve(func(s *site.Site) { tt.http(&s.HTTP) })
			}
			if tt.rewrite != nil {
				r.routes(t, site.Rule{Targets: r.targets(), Rewrite: tt.rewrite})
			}
			c := r.client()
			c.Write(get)
			r.loop.Run()
			r.server(t, 0).Write("HTTP/1.1 200 OK\r\n" + tt.response + "Content-Length: 0\r\n\r\n")
			r.loop.Run()
			got := c.Read()
			if n := strings.Count(got, "\r\nDate: "); n != 1 {
				t.Errorf("%d Date fields in %q, want 1", n, got)
			}
			if diff := cmp.Diff(tt.want, lines(got)); diff != "" {
				t.Errorf("head (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServersDateIsKept(t *testing.T) {
	r := newRig()
	c := r.client()
	c.Write(get)
	r.loop.Run()
	r.server(t, 0).Write("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n")
	r.loop.Run()
	if got := c.Read(); strings.Count(got, "Date:") != 1 || !strings.Contains(got, "08:49:37") {
		t.Errorf("answer = %q", got)
	}
}

func TestClientOf(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	tests := []struct {
		name, peer string
		fields     []string
		want       string
	}{
		{"a stranger is the client whatever it says", "192.0.2.1", []string{"1.1.1.1"}, "192.0.2.1"},
		{"the last one that is not trusted", "10.0.0.1", []string{"6.6.6.6, 1.1.1.1, 10.0.0.2"}, "1.1.1.1"},
		{"over several fields", "10.0.0.1", []string{"6.6.6.6, 1.1.1.1", "10.0.0.2,10.0.0.3"}, "1.1.1.1"},
		{"all trusted: the first", "10.0.0.1", []string{"10.9.9.9, 10.0.0.2"}, "10.9.9.9"},
		{"nothing said", "10.0.0.1", nil, "10.0.0.1"},
		{"garbage ends it", "10.0.0.1", []string{"1.1.1.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"with ports, IPv6", "2001:db8::1", []string{"[2001:4860::8]:443, [2001:db8::2]"}, "2001:4860::8"},
		{"mapped", "10.0.0.1", []string{"::ffff:1.2.3.4"}, "1.2.3.4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var req http1.Request
			head := "GET / HTTP/1.1\r\nHost: x\r\n"
			for _, f := range tt.fields {
				head += "X-Forwarded-For: " + f + "\r\n"
			}
			limits := http1.RequestLimits()
			if _, err := req.Parse([]byte(head+"\r\n"), &limits); err != nil {
				t.Fatal(err)
			}
			h := site.HTTP{Trusted: trusted}
			if got := clientOf(&req, netip.MustParseAddr(tt.peer), &h); got != netip.MustParseAddr(tt.want) {
				t.Errorf("client = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestView(t *testing.T) {
	var req http1.Request
	limits := http1.RequestLimits()
	if _, err := req.Parse([]byte("GET /a/b?c=d?e HTTP/1.1\r\nHost: WWW.Example.COM.:8443\r\nX-A: 1\r\nX-a: 2\r\nX-Empty:\r\nCookie: a=1; b=2;c=\"3\"\r\nCookie: b=9; d = 4\r\n\r\n"), &limits); err != nil {
		t.Fatal(err)
	}
	var v view
	v.set(&req, netip.MustParseAddr("192.0.2.1"))
	for _, tt := range []struct{ what, got, want string }{
		{"host", string(v.Host()), "www.example.com"},
		{"path", string(v.Path()), "/a/b"},
		{"query", string(v.Query()), "c=d?e"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	for name, want := range map[string]string{"x-a": "1", "x-empty": "", "absent": "-"} {
		got, ok := v.Header(name)
		if !ok {
			got = []byte("-")
		}
		if string(got) != want {
			t.Errorf("header %s = %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"a": "1", "b": "2", "c": `"3"`, "d": "-", "A": "-"} {
		got, ok := v.Cookie(name)
		if !ok {
			got = []byte("-")
		}
		if string(got) != want {
			t.Errorf("cookie %s = %q, want %q", name, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		v.set(&req, netip.MustParseAddr("192.0.2.1"))
		v.Cookie("d")
		v.Header("absent")
	}); n != 0 {
		t.Errorf("a view allocates %v times", n)
	}
}

func TestOtherUpgradesThanWebSocket(t *testing.T) {
	for protocol, passes := range map[string]bool{"websocket": true, "custom/1": true, "h2c": false, "HTTP/2.0": false, "TLS/1.0": false, "a, b": false} {
		t.Run(protocol, func(t *testing.T) {
			r := newRig()
			c := r.client()
			c.Write("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: " + protocol + "\r\n\r\n")
			r.loop.Run()
			s := r.server(t, 0)
			if got := strings.Contains(s.Read(), "Upgrade: "+protocol); got != passes {
				t.Fatalf("passed on: %v, want %v", got, passes)
			}
			s.Write("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")
			r.loop.Run()
			if got := c.Read(); !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, "upgrade-refused") {
				t.Errorf("a switch that nobody asked for: %q", got)
			}
		})
	}
}
