package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// routes checks the routes of one listener.
func (c *checker) routes(path string, routes []Route) {
	for i, r := range routes {
		c.route(element(path, i), r)
	}
	c.same(path, routes)
}

// same refuses routes that match the same requests. One that has another fault
// is left out: what it should match is not known.
func (c *checker) same(path string, routes []Route) {
	faulty := c.faulty(path)
	owners := map[string]string{}
	for i, r := range routes {
		p := element(path, i)
		if faulty[p] {
			continue
		}
		hosts := r.Hosts
		if len(hosts) == 0 {
			hosts = []string{""}
		}
		rest := conditionsOf(r)
		for _, host := range hosts {
			key := host + " " + rest
			if other, ok := owners[key]; ok {
				where := ""
				if host != "" {
					where = " for host " + quote(host)
				}
				c.add(p, "matches the same requests as route %s%s: no request would come here", quote(other), where)
				break
			}
			owners[key] = r.Name
		}
	}
}

// faulty gives the elements of a list that have faults, by path.
func (c *checker) faulty(list string) map[string]bool {
	all := map[string]bool{}
	note := func(faults Faults) {
		for _, f := range faults {
			if rest, ok := strings.CutPrefix(f.Path, list+"["); ok {
				i, _, _ := strings.Cut(rest, "]")
				all[list+"["+i+"]"] = true
			}
		}
	}
	note(c.faults)
	if c.doc != nil {
		note(c.doc.faults)
	}
	return all
}

// conditionsOf gives what a route matches but for its hosts: routes that match
// the same give the same.
func conditionsOf(r Route) string {
	var b strings.Builder
	part := func(kind string, values []string) {
		slices.Sort(values)
		fmt.Fprintf(&b, "%s%q", kind, slices.Compact(values))
	}
	part("paths", []string{"prefix " + r.Path, "exact " + r.PathExact, "regex " + r.PathRegex})
	part("methods", slices.Clone(r.Methods))
	part("headers", conditionTexts(r.Headers, strings.ToLower))
	part("cookies", conditionTexts(r.Cookies, strings.Clone))
	part("query", conditionTexts(r.Query, strings.Clone))
	var sources []string
	for _, s := range r.Sources {
		sources = append(sources, s.String())
	}
	part("sources", sources)
	return b.String()
}

func conditionTexts(conditions []Condition, name func(string) string) []string {
	var all []string
	for _, c := range conditions {
		all = append(all, fmt.Sprintf("%q %q %q %t", name(c.Name), c.Value, c.Regex, c.Absent))
	}
	return all
}

func (c *checker) route(p string, r Route) {
	c.alone(p, r, "path", "path_exact", "path_regex")
	for i, h := range r.Headers {
		at := element(p+".headers", i)
		c.condition(at, h)
		switch strings.ToLower(h.Name) {
		case "host":
			c.add(at+".name", "is %s: write hosts for it", quote(h.Name))
		case "cookie":
			c.add(at+".name", "is %s: write cookies for it", quote(h.Name))
		default:
			c.conditionName(at, h)
		}
	}
	for i, k := range r.Cookies {
		at := element(p+".cookies", i)
		c.condition(at, k)
		c.conditionName(at, k)
	}
	for i, q := range r.Query {
		at := element(p+".query", i)
		c.condition(at, q)
		if len(q.Name) > maxToken {
			c.add(at+".name", "has %d bytes, at most %d are allowed", len(q.Name), maxToken)
		}
	}
	if !c.alone(p, r, "pool", "split", "redirect", "respond") {
		c.add(p, "does nothing: give it a pool, split, redirect or respond")
	}
	forwards := c.has(p, "pool", r) || c.has(p, "split", r)
	if !forwards {
		c.useless(p, r, "pool or split only", "mirror", "rewrite")
	}
	if len(r.Split) > 0 {
		c.split(p+".split", r.Split)
	}
	if r.Redirect != nil {
		c.redirect(p+".redirect", r, *r.Redirect)
	}
	if r.Respond != nil && (r.Respond.Status == 204 || r.Respond.Status == 205 || r.Respond.Status == 304) && r.Respond.Body != "" {
		c.add(p+".respond.body", "cannot stand beside status %d, which has none (RFC 9110 15)", r.Respond.Status)
	}
	if r.Respond != nil && r.Respond.Body == "" && c.sure(p+".respond.body") {
		c.useless(p+".respond", *r.Respond, "body only", "content_type")
	}
	if r.Rewrite != nil && forwards {
		c.rewrite(p+".rewrite", r, *r.Rewrite)
	}
}

func (c *checker) condition(p string, k Condition) {
	c.alone(p, k, "value", "regex", "absent")
	if k.Value == "" && c.has(p, "value", k) {
		c.add(p+".value", "is empty: take it out to ask only that there is one")
	} else if reason := notHeaderValue(k.Value); reason != "" {
		c.add(p+".value", "%s", reason)
	}
}

func (c *checker) conditionName(p string, k Condition) {
	if reason := notToken(k.Name); reason != "" && k.Name != "" {
		c.add(p+".name", "is %s, %s", quote(k.Name), reason)
	}
}

func (c *checker) split(p string, shares []Share) {
	sum, seen := 0, map[string]bool{}
	for i, s := range shares {
		sum += s.Weight
		if seen[s.Pool] && s.Pool != "" {
			c.add(element(p, i)+".pool", "%s has a share already", quote(s.Pool))
		}
		seen[s.Pool] = true
	}
	if sum == 0 && c.sure(p) {
		c.add(p, "gives every pool the weight 0: one must be above")
	}
}

func (c *checker) redirect(p string, r Route, d Redirect) {
	if !c.has(p, "scheme", d) && !c.has(p, "host", d) && !c.has(p, "port", d) && !c.has(p, "path", d) {
		c.add(p, "leads to where it came from: give it a scheme, host, port or path")
	}
	switch {
	case !d.Prefix:
	case d.Path == "" && c.sure(p+".path"):
		c.add(p+".prefix", "is of use with path only")
	case r.PathExact != "" || r.PathRegex != "":
		c.add(p+".prefix", "is of use with the route's path only, which is a prefix")
	}
}

func (c *checker) rewrite(p string, r Route, w Rewrite) {
	if w.Path == "" && w.Host == "" && w.RequestHeaders.isZero() && w.ResponseHeaders.isZero() && c.sure(p) {
		c.add(p, "rewrites nothing: give it a path, host or headers, or take it out")
	}
	c.headerEdit(p+".request_headers", w.RequestHeaders)
	c.headerEdit(p+".response_headers", w.ResponseHeaders)
	if r.PathRegex == "" || !strings.Contains(w.Path, "$") {
		return
	}
	groups, err := c.groups(r.PathRegex)
	if err != nil {
		return
	}
	for _, after := range strings.Split(w.Path, "$")[1:] {
		if after == "" || after[0] < '1' || after[0] > '9' {
			c.add(p+".path", "has a $ without a digit: with path_regex write $1 to $9, or %%24 for the character")
		} else if n := int(after[0] - '0'); n > groups {
			c.add(p+".path", "has $%d, but path_regex has no such group", n)
		}
	}
}

func (e HeaderEdit) isZero() bool { return len(e.Set)+len(e.Add)+len(e.Remove) == 0 }

func (c *checker) headerEdit(p string, e HeaderEdit) {
	used := map[string]string{}
	for i, name := range e.Remove {
		key := strings.ToLower(name)
		if used[key] != "" {
			c.add(element(p+".remove", i), "%s is in the list already: case makes no difference", shorten(name))
		}
		used[key] = "remove"
	}
	for _, name := range slices.Sorted(maps.Keys(e.Set)) {
		if key := strings.ToLower(name); used[key] == "remove" {
			c.add(join(p+".set", name), "is in remove as well: set replaces what there is")
		}
	}
}
