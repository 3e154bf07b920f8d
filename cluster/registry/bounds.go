package registry

import (
	"fmt"

	"github.com/goccy/go-yaml/token"
)

// maxMarks bounds the marks in a document: what is no letter, digit or blank. A
// token takes the YAML library hundreds of bytes and some microseconds, and
// each takes a mark, or follows one; base64, which large documents are made of,
// has few. 10,000 routes have 300,000.
const maxMarks = 2 << 20

// tooManyMarks reports whether a document has more, and where.
func tooManyMarks(doc []byte) (position, bool) {
	at, marks := position{1, 1}, 0
	for _, b := range doc {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == ' ', b == '+', b == '/', b == '=':
		case b&0xc0 == 0x80: // goes on with a character
			continue
		default:
			if marks++; marks > maxMarks {
				return at, true
			}
		}
		at.column++
		if b == '\n' {
			at = position{at.line + 1, 1}
		}
	}
	return position{}, false
}

// The bounds on a document's shape. The YAML parser is recursive, in depth and
// from each key of a block mapping to the next, and moves all tokens for each
// value that is left out: a small document could keep it busy for minutes, or
// overflow its stack. So these are checked on the tokens, before it runs.
const (
	maxDepth = 32   // the model itself needs seven
	maxKeys  = 1000 // of one mapping: next_hops has one for each node
	maxEmpty = 100  // values left out, in the whole document
)

// block is an open block collection.
type block struct{ column, keys int }

// collection is an open flow collection: whether it is a mapping, and whether its
// present element has a colon yet.
type collection struct{ mapping, pair bool }

// shape follows the nesting of a document from token to token.
type shape struct {
	blocks []block
	flow   []collection
	line   int // of the token before
	empty  int
}

// refuseTokens refuses by tokens what must not reach the parser, or has no
// place in a configuration.
func refuseTokens(tokens token.Tokens) Faults {
	var faults Faults
	refuse := func(t *token.Token, message string) {
		if len(faults) < maxFaults {
			faults = append(faults, Fault{Line: t.Position.Line, Column: t.Position.Column, Message: message})
		}
	}
	var s shape
	var previous *token.Token
	for i, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		if message, ok := unsupported(t); ok {
			refuse(t, message)
		}
		if message, ok := s.next(t, previous); ok {
			refuse(t, message)
			return faults // what follows is more of the same
		}
		if s.leavesOut(t, tokens[i+1:]) {
			if s.empty++; s.empty > maxEmpty {
				refuse(t, fmt.Sprintf("the document leaves out more than %d values", maxEmpty))
				return faults
			}
		}
		previous = t
	}
	return faults
}

// unsupported says which part of YAML a token begins that has no place here.
func unsupported(t *token.Token) (string, bool) {
	switch t.Type {
	case token.AnchorType:
		return "anchors (&) are not supported: write the value out", true
	case token.AliasType:
		return "aliases (*) are not supported: write the value out", true
	case token.MergeKeyType:
		return "merge keys (<<) are not supported: write the fields out", true
	case token.TagType:
		return "tags (!) are not supported", true
	case token.MappingKeyType:
		return "complex keys (?) are not supported", true
	case token.DirectiveType:
		return "directives (%) are not supported", true
	}
	return "", false
}

// next takes a token in, and says which bound it breaks.
func (s *shape) next(t, previous *token.Token) (string, bool) {
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		if previous != nil && (previous.Type == token.MappingEndType || previous.Type == token.SequenceEndType) {
			return "a comma before this is missing", true
		}
		s.flow = append(s.flow, collection{mapping: t.Type == token.MappingStartType})
	case token.MappingEndType, token.SequenceEndType, token.CollectEntryType:
		if previous == nil || len(s.flow) == 0 {
			break
		}
		top := &s.flow[len(s.flow)-1]
		if top.mapping && !top.pair && !isIndicator(previous) {
			return "the value of the key before this is missing", true
		}
		if t.Type != token.CollectEntryType {
			s.flow = s.flow[:len(s.flow)-1]
			break
		}
		if isIndicator(previous) && previous.Type != token.MappingValueType {
			return "the value before this comma is missing", true
		}
		top.pair = false
	case token.MappingValueType:
		if previous == nil || previous.Position.Line != t.Position.Line || isIndicator(previous) {
			return "the key before this colon is missing", true
		}
		if len(s.flow) > 0 {
			s.flow[len(s.flow)-1].pair = true
		}
	}
	if previous != nil && (previous.Type == token.LiteralType || previous.Type == token.FoldedType) {
		// The text of a block scalar, which has the position of its end.
		s.line = t.Position.Line
		return "", false
	}
	if len(s.flow) == 0 && (t.Position.Line != s.line || t.Type == token.SequenceEntryType) {
		if s.begin(t); s.blocks[len(s.blocks)-1].keys > maxKeys {
			return fmt.Sprintf("the mapping has more than %d keys", maxKeys), true
		}
	}
	s.line = t.Position.Line
	if len(s.flow)+len(s.blocks) > maxDepth {
		return fmt.Sprintf("is nested more than %d levels deep", maxDepth), true
	}
	return "", false
}

// begin takes in the token that begins a line, or a dash: it opens a block
// collection, or goes on with one.
func (s *shape) begin(t *token.Token) {
	column := t.Position.Column
	for len(s.blocks) > 0 && s.blocks[len(s.blocks)-1].column > column {
		s.blocks = s.blocks[:len(s.blocks)-1]
	}
	if len(s.blocks) == 0 || s.blocks[len(s.blocks)-1].column < column {
		s.blocks = append(s.blocks, block{column: column})
	}
	if t.Type != token.SequenceEntryType {
		s.blocks[len(s.blocks)-1].keys++
	}
}

// leavesOut reports whether a dash or a colon has no value behind it.
func (s *shape) leavesOut(t *token.Token, rest token.Tokens) bool {
	if t.Type != token.SequenceEntryType && t.Type != token.MappingValueType {
		return false
	}
	for _, n := range rest {
		switch {
		case n.Type == token.CommentType:
			continue
		case len(s.flow) > 0:
			return n.Type == token.CollectEntryType || n.Type == token.MappingEndType || n.Type == token.SequenceEndType
		case n.Position.Line == t.Position.Line:
			return false
		case t.Type == token.MappingValueType && n.Type == token.SequenceEntryType:
			return false // a list may stand right below its key
		default:
			return n.Position.Column <= s.blocks[len(s.blocks)-1].column
		}
	}
	return true
}

// isIndicator reports whether a token is one after which no key or value has
// been seen yet.
func isIndicator(t *token.Token) bool {
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType, token.CollectEntryType, token.MappingValueType,
		token.SequenceEntryType, token.DocumentHeaderType, token.DocumentEndType:
		return true
	}
	return false
}
