// Package route finds the rule that a request falls under. It is pure, and
// neither locks nor allocates on a match.
package route

import "net/netip"

// Rule is what a request must be like. Fields left at zero match everything;
// all others must match; within a list, one must.
type Rule struct {
	// Hosts are exact names, or wildcards such as *.example.com, which stand
	// for one label or more.
	Hosts []string
	// Path is compared as PathKind says; empty matches everything.
	Path     string
	PathKind PathKind // default Prefix
	Methods  []string
	Headers  []Field // names in any case
	Cookies  []Field
	Query    []Field // parameters, percent-decoded
	Sources  []netip.Prefix
}

// PathKind is how a path is compared.
type PathKind string

// The kinds.
const (
	Exact  PathKind = "exact"
	Prefix PathKind = "prefix" // by segment: /api is a prefix of /api and /api/x, not of /apix
	Regex  PathKind = "regex"  // RE2, matched against the whole path
)

// Field is a condition on a field, cookie or parameter. With neither Value nor
// Regex it must be there.
type Field struct {
	Name   string
	Value  string // equal to it
	Regex  string // RE2, matched against the whole value; not with Value
	Absent bool   // must not be there; not with the others
}
