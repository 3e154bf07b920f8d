package registry

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// join adds a key to a path. A key that is no plain word is quoted.
func join(path, key string) string {
	if !isWord(key) {
		key = quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// isWord reports whether a key is a name, in any case.
func isWord(key string) bool { return CheckName(strings.ToLower(key)) == nil }

// element adds the number of a list's element to its path.
func element(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// parent is the path of what holds the field at path.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// shorten bounds what a message repeats of a document. PEM, which may be a key
// in the wrong place, it does not repeat.
func shorten(s string) string {
	const most = 64
	if strings.Contains(s, "-----BEGIN") {
		return "(PEM)"
	}
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// quote is shorten, in quotes and with control characters escaped.
func quote(s string) string { return strconv.Quote(shorten(s)) }

// CheckName says what is wrong with a name, or nil. Names of all kinds, those
// of nodes included, have 1 to 63 of a-z, 0-9, "_", "." and "-", and begin with
// a letter or a digit: such a name is safe in a path, a label and a URL.
func CheckName(name string) error {
	if name == "" {
		return errors.New("is empty")
	}
	if len(name) > 63 {
		return fmt.Errorf("has %d characters, at most 63 are allowed", len(name))
	}
	for i, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		case (r == '_' || r == '.' || r == '-') && i > 0:
		case r == '_' || r == '.' || r == '-':
			return fmt.Errorf("is %s: the first character must be a letter or a digit", quote(name))
		default:
			return fmt.Errorf("is %s: %q is not one of a-z, 0-9, _, . and -", quote(name), r)
		}
	}
	return nil
}
