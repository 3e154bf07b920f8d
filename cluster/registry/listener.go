package registry

import (
	"net/netip"
	"time"
)

// Protocol is what a listener speaks with its clients.
type Protocol string

// The protocols.
const (
	ProtocolTCP   Protocol = "tcp"
	ProtocolUDP   Protocol = "udp"
	ProtocolTLS   Protocol = "tls" // passed through, routed by the server name that the client asks for
	ProtocolHTTP  Protocol = "http"
	ProtocolHTTPS Protocol = "https"
)

// HTTP reports whether requests are seen, and not only bytes.
func (p Protocol) HTTP() bool { return p == ProtocolHTTP || p == ProtocolHTTPS }

// known reports whether a protocol is one of them.
func (p Protocol) known() bool {
	switch p {
	case ProtocolTCP, ProtocolUDP, ProtocolTLS, ProtocolHTTP, ProtocolHTTPS:
		return true
	}
	return false
}

// Listener accepts connections on one port of a VIP, on each of its addresses.
// No two have a port of a VIP in common, but for udp beside another protocol.
type Listener struct {
	Name     string   `json:"name" required:"true" format:"name"`
	VIP      string   `json:"vip" required:"true" ref:"vips"`
	Port     uint16   `json:"port" required:"true" range:"1..65535"`
	Protocol Protocol `json:"protocol" required:"true" words:"tcp udp tls http https"`
	// Pool takes what no route or server name takes. It may be absent where
	// there are some, or RedirectHTTPS: the rest is then answered by 404, on tls
	// closed.
	Pool        string       `json:"pool" ref:"pools"`
	ServerNames []ServerName `json:"server_names" for:"tls" max:"1000"`
	TLS         *ListenerTLS `json:"tls" for:"https"` // required there
	HSTS        *HSTS        `json:"hsts" for:"https"`
	// RedirectHTTPS redirects what no route takes; it stands in for Pool.
	RedirectHTTPS *RedirectHTTPS `json:"redirect_https" for:"http"`
	HTTP2         *bool          `json:"http2" default:"true" for:"http https"` // by ALPN on https, by prior knowledge on http (RFC 9113 3.3)
	// TrustedSources are those whose X-Forwarded-*, Forwarded and X-Real-IP are
	// believed and continued.
	TrustedSources []netip.Prefix `json:"trusted_sources" for:"http https" max:"1000"`
	Forwarded      bool           `json:"forwarded" for:"http https"`          // Forwarded (RFC 7239) is sent as well
	Via            string         `json:"via" for:"http https" format:"token"` // the pseudonym in Via (RFC 9110 7.6.3); absent: none is sent
	Underscores    Underscores    `json:"underscores" default:"drop" for:"http https" words:"drop keep refuse"`
	Limits         Limits         `json:"limits" for:"http https"`
	// AcceptProxy are the sources that must begin with a PROXY protocol header.
	AcceptProxy []netip.Prefix   `json:"accept_proxy" for:"tcp tls http https" max:"1000"`
	ClientLimit *ClientLimit     `json:"client_limit"`
	Timeouts    ListenerTimeouts `json:"timeouts"`
	AccessLog   *bool            `json:"access_log"` // default true on http and https, false on others
	ErrorPages  []ErrorPage      `json:"error_pages" for:"http https" max:"100"`
	Routes      []Route          `json:"routes" for:"http https" max:"10000"` // the most specific match wins
}

// Underscores says what becomes of a header field whose name has an
// underscore: servers that make variables of names take it for a hyphen.
type Underscores string

// The values of Underscores.
const (
	UnderscoresDrop   Underscores = "drop"
	UnderscoresKeep   Underscores = "keep"
	UnderscoresRefuse Underscores = "refuse" // the request, by 400
)

// ServerName says where connections for some names go.
type ServerName struct {
	Names []string `json:"names" required:"true" format:"server_name" least:"have at least one name" max:"1000"`
	Pool  string   `json:"pool" required:"true" ref:"pools"`
}

// ListenerTLS is how a listener speaks TLS.
type ListenerTLS struct {
	// Certificates are chosen by the server name that the client asks for. The
	// first is for clients that name none, or one that no certificate is for.
	Certificates []string   `json:"certificates" required:"true" ref:"certificates" least:"name at least one certificate" max:"1000"`
	MinVersion   TLSVersion `json:"min_version" default:"1.2" words:"1.2 1.3"`
	// Ciphers are of TLS 1.2, by IANA's names; absent: Go's own choice. Those of
	// 1.3 cannot be chosen.
	Ciphers     []string   `json:"ciphers" format:"cipher" max:"32"`
	PostQuantum *bool      `json:"post_quantum" default:"true"` // X25519MLKEM768 is offered
	ClientAuth  ClientAuth `json:"client_auth" default:"none" words:"none optional require"`
	ClientCA    string     `json:"client_ca" format:"certificates" max:"1048576"` // PEM; with client_auth
}

// TLSVersion is a version of TLS.
type TLSVersion string

// The versions.
const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// ClientAuth says whether clients must show a certificate.
type ClientAuth string

// The values of ClientAuth.
const (
	ClientAuthNone     ClientAuth = "none"
	ClientAuthOptional ClientAuth = "optional" // verified if there is one
	ClientAuthRequire  ClientAuth = "require"
)

// HSTS is the Strict-Transport-Security field of responses (RFC 6797 6.1).
type HSTS struct {
	MaxAge            *time.Duration `json:"max_age" default:"8760h" range:"0s..87600h" whole:"true"` // 0s: forget it
	IncludeSubdomains bool           `json:"include_subdomains"`
	Preload           bool           `json:"preload"` // the lists ask for a year and include_subdomains
}

// RedirectHTTPS answers with a redirect to the same host and path by https.
type RedirectHTTPS struct {
	Port   uint16 `json:"port" default:"443" range:"1..65535"`
	Status int    `json:"status" default:"308" words:"301 302 307 308"`
}

// Limits bound what a client may send. What is beyond is answered by 431, a
// body by 413.
type Limits struct {
	HeaderFields int   `json:"header_fields" default:"100" range:"1..1000"`
	HeaderLine   int   `json:"header_line" default:"8192" range:"256..65536"`   // bytes
	HeaderSize   int   `json:"header_size" default:"16384" range:"256..131072"` // bytes, of all lines
	Body         int64 `json:"body" range:"0..1099511627776"`                   // bytes; 0: unlimited
}

// ClientLimit bounds what one client may do. It bounds the rate, the
// connections or both.
type ClientLimit struct {
	Key   ClientKey `json:"key" default:"address" words:"address header cookie"`
	Name  string    `json:"name" format:"token"`                 // of the header field or cookie
	Rate  float64   `json:"rate" range:"0.001..1000000" off:"0"` // requests a second, of tcp, tls and udp: connections; 0: off
	Burst int       `json:"burst" range:"1..10000000"`           // at one time; default: rate, rounded up
	// Connections open at one time, by address whatever Key says. 0: off.
	Connections int `json:"connections" range:"0..1000000"`
	// IPv6Prefix is the length of the prefix that counts as one client, who has
	// that many addresses to choose from.
	IPv6Prefix int `json:"ipv6_prefix" default:"64" range:"16..128"`
}

// ClientKey says who counts as one client.
type ClientKey string

// The keys. Who does not send the field or cookie counts by address.
const (
	ClientKeyAddress ClientKey = "address"
	ClientKeyHeader  ClientKey = "header"
	ClientKeyCookie  ClientKey = "cookie"
)

// ListenerTimeouts bound how long a client is waited for.
type ListenerTimeouts struct {
	Header time.Duration `json:"header" default:"10s" for:"http https" range:"10ms..1h"` // the whole head of a request
	// Idle is how long a connection waits for its next request: default 60s. On
	// tcp, tls and udp it is how long nothing may move: defaults 1h, 1h and 30s.
	Idle     time.Duration `json:"idle" range:"10ms..168h"`
	Exchange time.Duration `json:"exchange" default:"60s" for:"http https" range:"10ms..168h"` // nothing moved of a request or response
	Tunnel   time.Duration `json:"tunnel" default:"1h" for:"http https" range:"10ms..168h"`    // nothing moved after an upgrade
}

// ErrorPage replaces the body of what the proxy itself answers.
type ErrorPage struct {
	Status      []int  `json:"status" required:"true" range:"400..599" least:"have at least one status" max:"200"`
	ContentType string `json:"content_type" default:"text/html" format:"media_type"`
	Body        string `json:"body" max:"65536"`
}

// Pools are the names of the pools that the listener sends to, mirrors
// excepted, each once, in the order of the document.
func (l Listener) Pools() []string {
	var names []string
	seen := map[string]bool{"": true}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	add(l.Pool)
	for _, s := range l.ServerNames {
		add(s.Pool)
	}
	for _, r := range l.Routes {
		add(r.Pool)
		for _, s := range r.Split {
			if s.Weight > 0 {
				add(s.Pool)
			}
		}
	}
	return names
}
