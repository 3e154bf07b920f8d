package registry

// node is a piece of a document, whether it was YAML or JSON, or will be.
type node struct {
	kind   kind
	text   string // of a scalar, as written; of text, its value
	quoted bool   // of text: it cannot be taken for anything else
	secret bool   // of text: not for Diff to show
	span   bool   // of text: a duration
	at     position
	items  []node // of a list
	pairs  []pair // of a mapping, in order
}

// pair is a key of a mapping with its value.
type pair struct {
	key   string
	at    position
	value node
}

// kind is what a node is.
type kind uint8

const (
	nullKind kind = iota
	textKind
	wholeKind    // a number without point or exponent
	fractionKind // any other number
	truthKind
	listKind
	mappingKind
)

// position is a place in a document: line and column, from 1.
type position struct{ line, column int }

// String names the kind for a reader.
func (k kind) String() string {
	switch k {
	case nullKind:
		return "empty"
	case wholeKind, fractionKind:
		return "a number"
	case truthKind:
		return "true or false"
	case listKind:
		return "a list"
	case mappingKind:
		return "a mapping"
	default:
		return "text"
	}
}
