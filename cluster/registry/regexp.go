package registry

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
)

// The bounds on regular expressions. RE2 takes linear time, but a{1000} makes a
// thousand states, of some 40 bytes each, of seven characters, and there may be
// ten thousand routes.
const (
	maxPattern   = 1024 // bytes
	maxStates    = 2000
	maxAllStates = 1_000_000 // of all that differ
)

// pattern checks a regular expression (RE2).
func (c *checker) pattern(path, s string) {
	if _, err := c.groups(s); err != nil {
		c.add(path, "is %s, %v", quote(s), err)
	}
}

// groups counts the groups of a regular expression.
func (c *checker) groups(s string) (int, error) {
	if g, ok := c.regexps[s]; ok {
		return g, nil
	}
	if s == "" {
		return 0, errors.New("which matches everything or nothing: take it out")
	}
	if len(s) > maxPattern {
		return 0, fmt.Errorf("which has %d bytes, at most %d are allowed", len(s), maxPattern)
	}
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return 0, fmt.Errorf("which is no regular expression (RE2): %s", reason(err))
	}
	n := states(tree)
	if n > maxStates {
		return 0, fmt.Errorf("which takes more than %d states: repeat less", maxStates)
	}
	if c.states += n; c.states > maxAllStates {
		return 0, fmt.Errorf("which takes all regular expressions together above %d states: repeat less", maxAllStates)
	}
	r, err := regexp.Compile(s)
	if err != nil {
		return 0, fmt.Errorf("which is no regular expression (RE2): %s", reason(err))
	}
	c.regexps[s] = r.NumSubexp()
	return r.NumSubexp(), nil
}

// reason says what is wrong with a regular expression, without a second copy
// of all of it.
func reason(err error) string {
	var e *syntax.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("%s: %s", e.Code, quote(e.Expr))
	}
	return err.Error()
}

// states estimates the size of the machine for a regular expression.
func states(re *syntax.Regexp) int {
	inner := 0
	for _, sub := range re.Sub {
		inner += states(sub)
	}
	own := 1
	switch re.Op {
	case syntax.OpLiteral:
		own = len(re.Rune)
	case syntax.OpRepeat:
		inner *= max(re.Min, re.Max, 1)
	}
	return min(own+inner, maxStates+1)
}
