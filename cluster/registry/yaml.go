package registry

import (
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// nodeOf makes a node of a syntax tree. An absent value has the position of
// what it is the value of.
func nodeOf(n ast.Node, absent position) node {
	if n == nil {
		return node{at: absent}
	}
	out := node{at: positionOf(n)}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.MappingNode:
		out.kind, out.pairs = mappingKind, pairsOf(n.Values)
	case *ast.MappingValueNode:
		out.kind, out.pairs = mappingKind, pairsOf([]*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		out.kind, out.items = listKind, make([]node, len(n.Values))
		for i, v := range n.Values {
			out.items[i] = nodeOf(v, out.at)
		}
	case *ast.StringNode:
		out.kind, out.text = textKind, n.Value
		out.quoted = n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType
	case *ast.LiteralNode:
		out.kind, out.text, out.quoted = textKind, n.Value.Value, true
	case *ast.IntegerNode:
		out.kind, out.text = wholeKind, n.Token.Value
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.kind, out.text = fractionKind, n.GetToken().Value
	case *ast.BoolNode:
		out.kind, out.text = truthKind, "false"
		if n.Value {
			out.text = "true"
		}
	default:
		out.kind, out.text = textKind, n.GetToken().Value
	}
	return out
}

func pairsOf(values []*ast.MappingValueNode) []pair {
	pairs := make([]pair, len(values))
	for i, v := range values {
		p := &pairs[i]
		p.at = positionOf(v.Key)
		if k, ok := v.Key.(*ast.StringNode); ok {
			p.key = k.Value
		} else {
			p.key = v.Key.GetToken().Value
		}
		if p.value = nodeOf(v.Value, p.at); p.value.kind == nullKind {
			p.value.at = p.at
		}
	}
	return pairs
}

// positionOf says where a node begins.
func positionOf(n ast.Node) position {
	switch n := n.(type) {
	case *ast.MappingNode:
		// In block style, the token of a mapping is the first colon.
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return positionOf(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return positionOf(n.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{t.Position.Line, t.Position.Column}
	}
	return position{1, 1}
}
