package site

import (
	"regexp"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
	"github.com/pharos-lb/pharos/proxy/policy/route"
)

// Field is one field to set or to add.
func Field(name, value string) http1.Field {
	return http1.Field{Name: []byte(name), Value: []byte(value)}
}

// Edits change the fields of a head. Set replaces all fields of its name, Add
// leaves them; what is removed is removed first.
type Edits struct {
	Set, Add []http1.Field
	Remove   []string
}

// Empty reports whether there is nothing to do.
func (e *Edits) Empty() bool { return e == nil || len(e.Set)+len(e.Add)+len(e.Remove) == 0 }

// Drops reports whether a field that came is taken out.
func (e *Edits) Drops(name []byte) bool {
	for i := range e.Remove {
		if http1.EqualNames(name, e.Remove[i]) {
			return true
		}
	}
	for i := range e.Set {
		if http1.EqualNames(name, e.Set[i].Name) {
			return true
		}
	}
	return false
}

// Append appends the fields that are put in.
func (e *Edits) Append(dst []byte) []byte {
	for i := range e.Set {
		dst = http1.AppendField(dst, e.Set[i].Name, e.Set[i].Value)
	}
	for i := range e.Add {
		dst = http1.AppendField(dst, e.Add[i].Name, e.Add[i].Value)
	}
	return dst
}

// Rewrite changes a request on its way to the server, and its response on the
// way back.
type Rewrite struct {
	// Path replaces the path: the part that the rule's Prefix matched, or all
	// of it. With Regex it is a template ($1). Empty: the path stays.
	Path   string
	Prefix string         // the rule's path, with PathKind prefix
	Regex  *regexp.Regexp // the rule's, with PathKind regex

	Host     string // empty: the client's
	Request  Edits
	Response Edits
}

// AppendTarget appends the request target that the server gets for one of path and
// query that the rule matched.
func (r *Rewrite) AppendTarget(dst, path, query []byte, hasQuery bool) []byte {
	switch {
	case r.Path == "":
		dst = append(dst, path...)
	case r.Regex != nil:
		read := route.AppendReading(nil, path)
		// The client's bytes must not make it anything but a path.
		if made := r.Regex.Expand(nil, []byte(r.Path), read, r.Regex.FindSubmatchIndex(read)); len(made) == 0 || made[0] != '/' {
			dst = append(append(dst, '/'), made...)
		} else {
			dst = append(dst, made...)
		}
	case r.Prefix != "":
		dst = appendReplaced(dst, r.Prefix, r.Path, path)
	default:
		dst = append(dst, r.Path...)
	}
	if hasQuery {
		dst = append(dst, '?')
		dst = append(dst, query...)
	}
	return dst
}

// appendReplaced appends path with prefix, which it begins with, segment by
// segment, replaced by with: /v1 by /v2, / by /app, /app by /.
func appendReplaced(dst []byte, prefix, with string, path []byte) []byte {
	read := route.AppendReading(nil, path)
	rest := read[min(len(trimSlash(prefix)), len(read)):]
	dst = append(dst, trimSlash(with)...)
	switch {
	case len(rest) > 0:
		dst = append(dst, rest...)
	case len(trimSlash(with)) == 0:
		dst = append(dst, '/')
	}
	return dst
}

func trimSlash(s string) string {
	if n := len(s); n > 0 && s[n-1] == '/' {
		return s[:n-1]
	}
	return s
}
