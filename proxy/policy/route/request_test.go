package route

import (
	"net/netip"
	"strings"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// request is a policy.Request out of plain values.
type request struct {
	method, host, path, query []byte
	headers, cookies          map[string][]byte
	client                    netip.Addr
}

var _ policy.Request = (*request)(nil)

func (r *request) Method() []byte { return r.method }
func (r *request) Host() []byte   { return r.host }
func (r *request) Path() []byte   { return r.path }
func (r *request) Query() []byte  { return r.query }
func (r *request) Header(lower string) ([]byte, bool) {
	v, ok := r.headers[lower]
	return v, ok
}

func (r *request) Cookie(name string) ([]byte, bool) {
	v, ok := r.cookies[name]
	return v, ok
}
func (r *request) Client() netip.Addr { return r.client }

// get makes a request of a URL without its scheme.
func get(url string) *request {
	i := strings.IndexByte(url, '/')
	path, query, _ := strings.Cut(url[i:], "?")
	return &request{
		method: []byte("GET"), host: []byte(url[:i]), path: []byte(path), query: []byte(query),
		headers: map[string][]byte{}, cookies: map[string][]byte{}, client: netip.MustParseAddr("192.0.2.1"),
	}
}

func (r *request) with(change func(*request)) *request {
	change(r)
	return r
}

func header(name, value string) func(*request) {
	return func(r *request) { r.headers[name] = []byte(value) }
}

func cookie(name, value string) func(*request) {
	return func(r *request) { r.cookies[name] = []byte(value) }
}

func from(client string) func(*request) {
	return func(r *request) { r.client = netip.MustParseAddr(client) }
}
func method(m string) func(*request) { return func(r *request) { r.method = []byte(m) } }
