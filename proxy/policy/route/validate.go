package route

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// Validate reports every fault of the rule at once, each as a *policy.Fault,
// joined.
func (r Rule) Validate() error {
	var f policy.Faults
	r.validate("", &f)
	return errors.Join(f...)
}

// validate reports faults with at before each field.
func (r Rule) validate(at string, f *policy.Faults) {
	for i, h := range r.Hosts {
		at := fmt.Sprintf("%shosts[%d]", at, i)
		if why := hostFault(h); why != "" {
			f.Add(at, "%q %s", h, why)
		} else if j := slices.IndexFunc(r.Hosts[:i], func(o string) bool { return canonicalHost(o) == canonicalHost(h) }); j >= 0 {
			f.Add(at, "%q is listed twice", h)
		}
	}
	r.validatePath(at, f)
	for i, m := range r.Methods {
		at := fmt.Sprintf("%smethods[%d]", at, i)
		upper := strings.ToUpper(m)
		switch {
		case !isToken(m):
			f.Add(at, "%q is not a method: a token is (RFC 9110 section 5.6.2)", m)
		case m != upper && slices.Contains(knownMethods, upper):
			f.Add(at, "%q never comes: methods are case-sensitive, write %s", m, upper)
		case slices.Contains(r.Methods[:i], m):
			f.Add(at, "%q is listed twice", m)
		}
	}
	validateFields(at+"headers", r.Headers, f, isToken, strings.ToLower)
	validateFields(at+"cookies", r.Cookies, f, isToken, asIs)
	validateFields(at+"query", r.Query, f, func(s string) bool { return s != "" }, asIs)
	for i, s := range r.Sources {
		at := fmt.Sprintf("%ssources[%d]", at, i)
		switch {
		case !s.IsValid():
			f.Add(at, "is not a prefix")
		case s.Addr().Is4In6():
			f.Add(at, "%v is an IPv4 network in IPv6 form: write it as IPv4", s)
		case s.Masked() != s:
			f.Add(at, "%v has bits set beyond its length: write %v", s, s.Masked())
		case slices.Contains(r.Sources[:i], s):
			f.Add(at, "%v is listed twice", s)
		}
	}
}

// knownMethods are those of RFC 9110 section 9.3 and RFC 5789.
var knownMethods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func (r Rule) validatePath(at string, f *policy.Faults) {
	at += "path"
	switch r.PathKind {
	case Regex:
		if r.Path == "" {
			f.Add(at, "is empty, and path_kind is %q", r.PathKind)
		} else if err := regexFault(r.Path); err != nil {
			f.Add(at, "%v", err)
		}
		return
	case Exact:
		if r.Path == "" {
			f.Add(at, "is empty, and path_kind is %q", r.PathKind)
			return
		}
	case Prefix, "":
		if r.Path == "" {
			return
		}
	default:
		f.Add(at+"_kind", "%q is not known: use %q, %q or %q", r.PathKind, Exact, Prefix, Regex)
		return
	}
	if why := pathFault(r.Path); why != "" {
		f.Add(at, "%q %s", r.Path, why)
	}
}

// pathFault says what is wrong with the path of a rule; "" if nothing is.
func pathFault(path string) string {
	switch {
	case path[0] != '/':
		return "does not begin with a slash"
	case strings.ContainsAny(path, "?#"):
		return "holds more than a path: for the query there are conditions"
	case len(path) > maxNormal:
		return fmt.Sprintf("is longer than %d bytes", maxNormal)
	}
	strict, ok := normalise(nil, []byte(path), false)
	if !ok {
		return "holds a percent sign that encodes nothing, or NUL"
	}
	lax, ok := normalise(nil, []byte(path), true)
	if !ok || string(strict) != string(lax) {
		return "can never match: servers read an encoded slash, a backslash, a semicolon or two slashes in different ways, and requests must match in all of them"
	}
	return ""
}

// regexFault compiles a regex by itself, so that it cannot close the group
// that it will be put into, and as it will be used.
func regexFault(regex string) error {
	if _, err := regexp.Compile(regex); err != nil {
		return err
	}
	_, err := regexp.Compile(Whole(regex))
	return err
}

func asIs(s string) string { return s }

// validateFields checks conditions on fields whose names are equal when their
// canonical forms are.
func validateFields(at string, fields []Field, f *policy.Faults, isName func(string) bool, canonical func(string) string) {
	for i, c := range fields {
		at := fmt.Sprintf("%s[%d]", at, i)
		if !isName(c.Name) {
			f.Add(at+".name", "%q is not a name", c.Name)
		}
		switch {
		case c.Absent && (c.Value != "" || c.Regex != ""):
			f.Add(at+".absent", "goes with neither a value nor a regex")
		case c.Value != "" && c.Regex != "":
			f.Add(at+".regex", "does not go with a value")
		}
		if err := regexFault(c.Regex); err != nil {
			f.Add(at+".regex", "%v", err)
		}
		for j, o := range fields[:i] {
			if canonical(o.Name) != canonical(c.Name) {
				continue
			}
			switch {
			case o == c:
				f.Add(at, "repeats [%d]", j)
			case o.Absent != c.Absent, o.Value != "" && c.Value != "" && o.Value != c.Value:
				f.Add(at, "contradicts [%d], and both must match: write alternatives as a regex, or as another rule", j)
			}
		}
	}
}

// hostFault says what is wrong with a host; "" if nothing is.
func hostFault(host string) string {
	h := canonicalHost(host)
	if strings.HasPrefix(h, "[") {
		a, err := netip.ParseAddr(strings.TrimSuffix(h[1:], "]"))
		if err != nil || !strings.HasSuffix(h, "]") || !a.Is6() || a.Zone() != "" {
			return "is not an IPv6 address in brackets"
		}
		if want := "[" + a.String() + "]"; h != want {
			return "is not the canonical form (RFC 5952): write " + want
		}
		return ""
	}
	switch {
	case h == "":
		return "is empty: leave hosts out for a rule of every host"
	case h == "*":
		return "stands for every host: leave hosts out instead"
	case len(h) > 253:
		return "is longer than 253 bytes (RFC 1035 section 2.3.4)"
	}
	labels := strings.Split(h, ".")
	if labels[0] == "*" {
		labels = labels[1:]
	}
	for _, l := range labels {
		if why := labelFault(l); why != "" {
			return why
		}
	}
	return ""
}

func labelFault(l string) string {
	switch {
	case l == "":
		return "has an empty label"
	case len(l) > 63:
		return "has a label of more than 63 bytes (RFC 1035 section 2.3.4)"
	case l[0] == '-' || l[len(l)-1] == '-':
		return "has a label that begins or ends with a hyphen (RFC 1123 section 2.1)"
	}
	for i := range len(l) {
		switch c := l[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '*':
			return "has a wildcard elsewhere than as its whole first label"
		case c == ':':
			return "has a port, or is an IPv6 address without brackets"
		case c >= 0x80:
			return "is not ASCII: write its xn-- form (RFC 5891)"
		default:
			return fmt.Sprintf("holds %q", c)
		}
	}
	return ""
}

// canonicalHost is the form that requests are compared with.
func canonicalHost(h string) string {
	return strings.TrimSuffix(strings.ToLower(h), ".")
}

// isToken takes RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
