package sticky

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// maxName is the length of the longest name of a cookie, and maxAttribute of
// the longest Domain or Path: a browser keeps about 4 KiB a cookie in all.
const (
	maxName      = 64
	maxAttribute = 255
)

// Validate reports every fault of the configuration at once, each as a
// *policy.Fault, joined.
func (c Config) Validate() error {
	var errs []error
	for _, f := range c.Faults() {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

// Faults are what Validate reports, one by one.
func (c Config) Faults() []*policy.Fault {
	var faults []*policy.Fault
	fault := func(field, format string, args ...any) {
		faults = append(faults, &policy.Fault{Field: field, Reason: fmt.Sprintf(format, args...)})
	}
	switch {
	case !every(c.Name, isToken):
		fault("name", "%q is not a token (RFC 6265 section 4.1.1)", c.Name)
	case len(c.Name) > maxName:
		fault("name", "is longer than %d bytes", maxName)
	}
	switch c.Format {
	case "", Plain, Signed, Hidden:
	default:
		fault("format", "%q is not known: use %q, %q or %q", c.Format, Plain, Signed, Hidden)
	}
	for _, limit := range []struct {
		field string
		value time.Duration
	}{{"max_idle", c.MaxIdle}, {"max_life", c.MaxLife}} {
		switch {
		case limit.value == 0:
		case limit.value < time.Second:
			fault(limit.field, "%v is less than 1s", limit.value)
		case c.Format == Plain:
			fault(limit.field, "needs a date in the cookie, which a %s one has not", Plain)
		}
	}
	switch c.SameSite {
	case "", Lax, Strict:
	case None:
		if !c.Secure {
			fault("same_site", "%q needs secure: browsers drop the cookie else (RFC 6265bis section 5.7)", None)
		}
	default:
		fault("same_site", "%q is not known: use %q, %q or %q", c.SameSite, Lax, Strict, None)
	}
	if c.Domain != "" && (!every(c.Domain, inDomain) || len(c.Domain) > maxAttribute || c.Domain[0] == '.' || c.Domain[0] == '-') {
		fault("domain", "%q is not a domain", c.Domain)
	}
	if c.Path != "" && (c.Path[0] != '/' || !every(c.Path, inAttribute) || len(c.Path) > maxAttribute) {
		fault("path", "%q is not a path that begins with a slash, without semicolons, and of at most %d bytes", c.Path, maxAttribute)
	}
	c.validatePrefix(fault)
	return faults
}

// validatePrefix holds names with prefixes to what browsers make of them
// (RFC 6265bis section 4.1.3): they drop other cookies of such names.
func (c Config) validatePrefix(fault func(field, format string, args ...any)) {
	lower := strings.ToLower(c.Name)
	onHost := strings.HasPrefix(lower, "__host-")
	if (onHost || strings.HasPrefix(lower, "__secure-")) && !c.Secure {
		fault("secure", "must be set for a cookie of the name %q", c.Name)
	}
	if onHost && c.Domain != "" {
		fault("domain", "must be left out for a cookie of the name %q", c.Name)
	}
	if onHost && c.Path != "" && c.Path != "/" {
		fault("path", "must be / for a cookie of the name %q", c.Name)
	}
}

// every reports whether s is not empty, and all its bytes are taken.
func every(s string, takes func(byte) bool) bool {
	for i := range len(s) {
		if !takes(s[i]) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isToken(c byte) bool { return isAlphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 }

func inDomain(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '.' || c == '_' }

// inAttribute takes the av-octets of RFC 6265 section 4.1.1.
func inAttribute(c byte) bool { return c >= 0x20 && c < 0x7f && c != ';' }
