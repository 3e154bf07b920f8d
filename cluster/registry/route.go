package registry

import "net/netip"

// Route says what becomes of the requests that it matches. Conditions left out
// match everything; all others must match; within a list, one must. It has one
// of Pool, Split, Redirect and Respond.
type Route struct {
	Name string `json:"name" required:"true" format:"name"`

	// Hosts are names, or wildcards such as *.example.com, which stand for one
	// label or more. A document may say "host" for one.
	Hosts     []string       `json:"hosts" alias:"host" format:"host_pattern" max:"100"`
	Path      string         `json:"path" format:"route_path"`       // a prefix, by segment; at most one of the three
	PathExact string         `json:"path_exact" format:"route_path"` // the whole path
	PathRegex string         `json:"path_regex" format:"regexp"`     // RE2, matched against the whole path
	Methods   []string       `json:"methods" format:"method" max:"16"`
	Headers   []Condition    `json:"headers" max:"16"`
	Cookies   []Condition    `json:"cookies" max:"16"`
	Query     []Condition    `json:"query" max:"16"` // parameters, percent-decoded
	Sources   []netip.Prefix `json:"sources" max:"1000"`

	Pool     string    `json:"pool" ref:"pools"`
	Split    []Share   `json:"split" max:"64"`
	Redirect *Redirect `json:"redirect"`
	Respond  *Respond  `json:"respond"`

	Mirror  *Mirror  `json:"mirror"`  // with Pool or Split
	Rewrite *Rewrite `json:"rewrite"` // with Pool or Split
}

// Condition is on a header field, cookie or parameter. Without Value, Regex and
// Absent it must be there.
type Condition struct {
	Name   string `json:"name" required:"true"`
	Value  string `json:"value" max:"1024"`      // equal to it
	Regex  string `json:"regex" format:"regexp"` // RE2, matched against the whole value
	Absent bool   `json:"absent"`                // must not be there
}

// Share is a pool's part of a split, by weight.
type Share struct {
	Pool   string `json:"pool" required:"true" ref:"pools"`
	Weight int    `json:"weight" required:"true" always:"true" range:"0..256"`
}

// Redirect answers with another place. Parts left out are the request's.
type Redirect struct {
	Scheme string `json:"scheme" words:"http https"`
	Host   string `json:"host" format:"host"`
	Port   uint16 `json:"port" range:"1..65535"`
	// Path replaces the whole path, or with Prefix what the route's path matched.
	Path   string `json:"path" format:"redirect_path"`
	Prefix bool   `json:"prefix"`
	Status int    `json:"status" default:"302" words:"301 302 303 307 308"`
}

// Respond answers with a fixed response.
type Respond struct {
	Status      int               `json:"status" required:"true" range:"200..599"`
	ContentType string            `json:"content_type" format:"media_type"` // default text/plain, if there is a body
	Body        string            `json:"body" max:"65536"`
	Headers     map[string]string `json:"headers" keys:"response_header" format:"header_value" max:"64"`
}

// Mirror sends copies of requests to a pool and drops its answers.
type Mirror struct {
	Pool    string  `json:"pool" required:"true" ref:"pools"`
	Percent float64 `json:"percent" default:"100" range:"(0..100"` // of the requests
}

// Rewrite changes a request before it goes to a server, and its response.
type Rewrite struct {
	// Path replaces what the route's path matched; with PathRegex it may use $1
	// to $9, the groups.
	Path            string     `json:"path" format:"redirect_path"`
	Host            string     `json:"host" format:"authority"`
	RequestHeaders  HeaderEdit `json:"request_headers"`
	ResponseHeaders HeaderEdit `json:"response_headers"`
}

// HeaderEdit changes header fields: Remove first, then Set, then Add.
type HeaderEdit struct {
	Set    map[string]string `json:"set" keys:"header" format:"header_value" max:"64"`
	Add    map[string]string `json:"add" keys:"header" format:"header_value" max:"64"`
	Remove []string          `json:"remove" format:"header" max:"64"`
}
