package route

import "net/netip"

// Rule is what a request must be like. Fields left at zero match everything;
// all others must match. Of Hosts, Methods and Sources one must; of Headers,
// Cookies and Query each.
type Rule struct {
	// Hosts are exact names, or wildcards such as *.example.com, which stand
	// for one label or more. Case does not matter, nor does a final dot. IPv6
	// addresses stand in brackets.
	Hosts []string
	// Path is compared as PathKind says; empty matches everything. It begins
	// with a slash unless it is a regex, and is normalised as requests' paths
	// are; see the package's comment.
	Path     string
	PathKind PathKind // default Prefix
	Methods  []string // case matters (RFC 9110 section 9.1)
	Headers  []Field  // names in any case; the first field of a name counts
	Cookies  []Field
	// Query are parameters. Both sides of the = are percent-decoded, and + is
	// a space; a percent sign that encodes nothing stands for itself. The first
	// parameter of a name counts.
	Query []Field
	// Sources are the clients' networks. IPv4 in its own form, not mapped.
	Sources []netip.Prefix
}

// PathKind is how a path is compared.
type PathKind string

// The kinds.
const (
	Exact PathKind = "exact"
	// Prefix goes by segment: /api is a prefix of /api and /api/x, not of
	// /apix. A final slash does not matter.
	Prefix PathKind = "prefix"
	Regex  PathKind = "regex" // RE2, matched against the whole path
)

// Field is a condition on a field, cookie or parameter. With neither Value nor
// Regex it must be there.
type Field struct {
	Name   string
	Value  string // equal to it
	Regex  string // RE2, matched against the whole value; not with Value
	Absent bool   // must not be there; not with the others
}
