package registry

import (
	"reflect"
	"strings"
)

// Parse reads a configuration as an operator writes it: one YAML document,
// strict. The file name is for the messages only. An empty document is the
// empty configuration. The error, if any, is Faults, and has everything that
// is wrong, by position; only a document that is no YAML at all stops at its
// first fault.
//
// A sealed key is taken as it is: whether it is the certificate's, only ParseWith
// can tell.
func Parse(file string, doc []byte) (Config, error) { return ParseWith(nil, file, doc) }

// ParseWith is Parse, and opens sealed keys to check them like those in clear.
// The Config has them sealed all the same.
func ParseWith(open Opener, file string, doc []byte) (Config, error) {
	root, faults := readDocument(doc)
	var cfg Config
	if root.kind != nullKind {
		r := newReader(root)
		r.fillIn = true
		r.record("", root, reflect.ValueOf(&cfg).Elem())
		faults = append(r.faults, r.locate(validate(cfg, r, open))...)
	}
	if len(faults) > 0 {
		faults.sort()
		faults = faults[:min(len(faults), maxFaults)]
		for i := range faults {
			faults[i].File = file
		}
		return Config{}, faults
	}
	return cfg, nil
}

// unsure gives the lists that could not be read, or of which some element or
// its name could not: a reference into them that leads nowhere may be right.
func (r *reader) unsure() map[string]bool {
	lists := map[string]bool{}
	for path := range r.broken {
		element := strings.TrimSuffix(path, ".name")
		if list, _, _ := strings.Cut(element, "["); !strings.Contains(element, ".") {
			lists[list] = true
		}
	}
	return lists
}

// locate gives the faults of the model their positions: that of the field, or
// of the nearest thing around it. Faults of what could not be read are dropped:
// the reason was given already.
func (r *reader) locate(faults Faults) Faults {
	var kept Faults
	for _, f := range faults {
		if r.unreadable(f.Path) {
			continue
		}
		path := f.Path
		at, ok := r.positions[path]
		for !ok && path != "" {
			path = parent(path)
			at, ok = r.positions[path]
		}
		f.Line, f.Column = at.line, at.column
		kept = append(kept, f)
	}
	return kept
}
