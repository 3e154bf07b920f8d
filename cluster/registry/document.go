package registry

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxDocument is the largest document that Parse reads, in bytes. A thousand
// pools of ten servers take about 1 MiB, 10,000 routes 2 MiB, a thousand
// certificates with their chains and sealed keys 8 MiB.
const MaxDocument = 16 << 20

// maxFaults bounds the answer: a document of another kind altogether would
// give one fault a line.
const maxFaults = 1000

// readDocument reads the bytes of one YAML document. The root is null if the
// document is empty. What cannot be read, or what the format leaves no need for
// (anchors, tags, a second document), is a Fault.
func readDocument(doc []byte) (root node, faults Faults) {
	if len(doc) > MaxDocument {
		return node{}, Faults{{Line: 1, Column: 1, Message: fmt.Sprintf("the document has %d bytes, at most %d are read", len(doc), MaxDocument)}}
	}
	doc = bytes.TrimPrefix(doc, []byte("\uFEFF")) // a byte order mark, YAML 1.2.2 5.2
	if f, ok := badText(doc); ok {
		return node{}, Faults{f}
	}
	if at, ok := tooManyMarks(doc); ok {
		return node{}, Faults{{Line: at.line, Column: at.column, Message: fmt.Sprintf("the document has more than %d marks such as commas, colons, dashes and line ends", maxMarks)}}
	}
	// The library reads what an operator or a client of the API sends. Should it
	// panic on some odd input, then that input is refused, and the node lives.
	defer func() {
		if r := recover(); r != nil {
			root, faults = node{}, Faults{{Line: 1, Column: 1, Message: fmt.Sprintf("cannot be read as YAML: the parser failed: %v", r)}}
		}
	}()
	tokens := joinColons(lexer.Tokenize(string(doc)))
	if faults := refuseTokens(tokens); len(faults) > 0 {
		return node{}, faults
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return node{}, Faults{syntaxFault(err)}
	}
	for _, d := range file.Docs {
		if isEmpty(d.Body) {
			continue
		}
		if root.kind != nullKind {
			p := positionOf(d.Body)
			return node{}, Faults{{Line: p.line, Column: p.column, Message: "a second document begins here: put all in one"}}
		}
		root = nodeOf(d.Body, position{1, 1})
	}
	return root, nil
}

// badText finds the first byte that YAML allows in no document (YAML 1.2.2
// 5.1): broken UTF-8 or a control character.
func badText(doc []byte) (Fault, bool) {
	line, column := 1, 1
	for i := 0; i < len(doc); {
		r, n := utf8.DecodeRune(doc[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return Fault{Line: line, Column: column, Message: "is not UTF-8 text"}, true
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f:
			return Fault{Line: line, Column: column, Message: fmt.Sprintf("control character U+%04X is not allowed", r)}, true
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		i += n
	}
	return Fault{}, false
}

// joinColons mends what goccy/go-yaml v1.19.2 gets wrong: in a flow sequence
// inside a flow mapping, {addresses: [2001:db8::1]}, it takes a colon inside a
// plain scalar for a mapping. YAML 1.2.2 7.3.3 has it part of the scalar, and
// so has the library everywhere else.
func joinColons(tokens token.Tokens) token.Tokens {
	var joined token.Tokens
	var open []token.Type
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			open = append(open, t.Type)
		case token.MappingEndType, token.SequenceEndType:
			open = open[:max(len(open)-1, 0)]
		case token.MappingValueType:
			if len(open) == 0 || open[len(open)-1] != token.SequenceStartType || i+1 == len(tokens) || !follows(t, tokens[i+1]) {
				break
			}
			value, at := ":"+tokens[i+1].Value, t.Position
			switch last := joined[len(joined)-1]; {
			case isPlainScalar(last) && follows(last, t):
				value, at = last.Value+value, last.Position
				joined = joined[:len(joined)-1]
			case last.Type != token.SequenceStartType && last.Type != token.CollectEntryType:
				joined.Add(t) // a quoted key
				continue
			}
			t = token.New(value, value, at)
			i++
		}
		joined.Add(t)
	}
	return joined
}

// follows reports whether b stands right behind a, on one line, and one of
// them is a plain scalar.
func follows(a, b *token.Token) bool {
	return a.Position.Line == b.Position.Line && a.Position.Column+utf8.RuneCountInString(a.Value) == b.Position.Column &&
		(isPlainScalar(a) || isPlainScalar(b))
}

func isPlainScalar(t *token.Token) bool {
	switch t.Type {
	case token.StringType, token.IntegerType, token.FloatType, token.BoolType, token.NullType,
		token.HexIntegerType, token.OctetIntegerType, token.BinaryIntegerType:
		return true
	}
	return false
}

// syntaxFault makes a Fault of an error of the YAML parser.
func syntaxFault(err error) Fault {
	var at interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(err, &at) {
		return Fault{Line: 1, Column: 1, Message: "is not YAML: " + err.Error()}
	}
	// Not its Error: that prints the source as well, and takes minutes where
	// a line is very long.
	message, _, _ := strings.Cut(at.GetMessage(), `: "`) // what it quotes may be a line of a key
	f := Fault{Line: 1, Column: 1, Message: "is not YAML: " + message}
	if t := at.GetToken(); t != nil && t.Position != nil {
		f.Line, f.Column = t.Position.Line, t.Position.Column
	}
	return f
}

// isEmpty reports whether a document has no content but comments.
func isEmpty(n ast.Node) bool {
	if n == nil {
		return true
	}
	return slices.Contains([]ast.NodeType{ast.NullType, ast.CommentType}, n.Type())
}
