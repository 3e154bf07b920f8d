// Command reference prints the reference of the configuration, in Markdown, from
// the model's source: its comments say what a key means, its tags what it takes.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return errors.New("usage: reference FOLDER FILE")
	}
	text, err := Make(os.Args[1])
	if err != nil {
		return err
	}
	return os.WriteFile(os.Args[2], text, 0o644)
}

// model has the types of the package that are records, and the words that types
// of text have.
type model struct {
	records map[string]*ast.TypeSpec
	words   map[string][]word // by type
}

// word is a value that a key may have, with what it means.
type word struct{ text, meaning string }

// Make makes the reference of the model in a folder.
func Make(folder string) ([]byte, error) {
	m := model{map[string]*ast.TypeSpec{}, map[string][]word{}}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, folder+"/"+e.Name(), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		m.read(f)
	}
	if m.records["Config"] == nil {
		return nil, fmt.Errorf("there is no type Config in %s", folder)
	}
	var out bytes.Buffer
	out.WriteString(`# Configuration

What stands in the document for ` + "`pharos apply -f`" + `: every key, what it means, takes and is when left out. A key with a dot
after it has keys of its own, in a table below. Unknown keys, and keys that are of no use where they stand, are refused.
Durations are such as 300ms, 5s or 12h. Made from the source of the model by ` + "`make generate`" + `.
`)
	for _, name := range m.reachable("Config", nil) {
		m.table(&out, name)
	}
	return out.Bytes(), nil
}

func (m model) read(f *ast.File) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range g.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				m.readType(s, g)
			case *ast.ValueSpec:
				m.readWord(s)
			}
		}
	}
}

func (m model) readType(t *ast.TypeSpec, g *ast.GenDecl) {
	if _, isStruct := t.Type.(*ast.StructType); isStruct && t.Name.IsExported() {
		if t.Doc == nil {
			t.Doc = g.Doc
		}
		m.records[t.Name.Name] = t
	}
}

// readWord takes in a constant of a type of text.
func (m model) readWord(v *ast.ValueSpec) {
	of, ok := v.Type.(*ast.Ident)
	if !ok || len(v.Values) != 1 {
		return
	}
	if text, ok := v.Values[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
		w := word{must(strconv.Unquote(text.Value)), sentence(v.Doc.Text() + " " + v.Comment.Text())}
		m.words[of.Name] = append(m.words[of.Name], w)
	}
}

// reachable lists a record and those in it, each once, outer ones first.
func (m model) reachable(name string, seen []string) []string {
	if slices.Contains(seen, name) {
		return seen
	}
	seen = append(seen, name)
	for _, f := range m.records[name].Type.(*ast.StructType).Fields.List {
		if inner := m.recordIn(f.Type); inner != "" {
			seen = m.reachable(inner, seen)
		}
	}
	return seen
}

// recordIn names the record that a field holds, some of or by a pointer; "": none.
func (m model) recordIn(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.StarExpr:
		return m.recordIn(t.X)
	case *ast.ArrayType:
		return m.recordIn(t.Elt)
	case *ast.Ident:
		if m.records[t.Name] != nil {
			return t.Name
		}
	}
	return ""
}

func (m model) table(out *bytes.Buffer, name string) {
	record := m.records[name]
	fields := record.Type.(*ast.StructType).Fields.List
	doc := sentence(record.Doc.Text())
	if name == "Config" {
		doc, _, _ = strings.Cut(doc, " A Config ") // what follows is for programs
	}
	inWords := renamer(fields)
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n| key | meaning | value | default |\n|---|---|---|---|\n", name, inWords.Replace(doc))
	var explained bytes.Buffer
	for _, f := range fields {
		tag := tagOf(f)
		key := tag.Get("json")
		if inner := m.recordIn(f.Type); inner != "" {
			key = fmt.Sprintf("[%s.](#%s)", key, strings.ToLower(inner))
		} else {
			key = "`" + key + "`"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", key, cell(inWords.Replace(meaning(f))), cell(takes(f.Type, tag)), cell(fallback(tag)))
		m.explain(&explained, key, f)
	}
	out.Write(explained.Bytes())
}

// explain lists the words of a field, if their comments say what they mean.
func (m model) explain(out *bytes.Buffer, key string, f *ast.Field) {
	of, ok := f.Type.(*ast.Ident)
	if !ok || !slices.ContainsFunc(m.words[of.Name], func(w word) bool { return w.meaning != "" }) {
		return
	}
	fmt.Fprintf(out, "\n%s:\n\n", key)
	for _, w := range m.words[of.Name] {
		if w.meaning != "" {
			fmt.Fprintf(out, "- `%s`: %s\n", w.text, w.meaning)
		} else {
			fmt.Fprintf(out, "- `%s`\n", w.text)
		}
	}
}

// renamer turns the names of a record's fields, as comments use them, into keys.
func renamer(fields []*ast.Field) *strings.Replacer {
	var pairs []string
	for _, f := range fields {
		for _, after := range []string{" ", ",", ".", ":", ";"} {
			pairs = append(pairs, " "+f.Names[0].Name+after, " `"+tagOf(f).Get("json")+"`"+after)
		}
	}
	return strings.NewReplacer(pairs...)
}

func tagOf(f *ast.Field) reflect.StructTag {
	return reflect.StructTag(must(strconv.Unquote(f.Tag.Value)))
}

// meaning is what the comments on a field say.
func meaning(f *ast.Field) string {
	text := sentence(f.Doc.Text() + " " + f.Comment.Text())
	// A comment in Go begins with the name; in a table the key stands before it.
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(text, f.Names[0].Name+verb); ok {
			return upper(rest)
		}
	}
	return upper(strings.TrimPrefix(text, f.Names[0].Name+" "))
}

// takes says what a value may be.
func takes(e ast.Expr, tag reflect.StructTag) string {
	var parts []string
	add := func(format, value string) {
		if value != "" {
			parts = append(parts, fmt.Sprintf(format, value))
		}
	}
	if tag.Get("words") == "" && tag.Get("ref") == "" {
		add("%s", kind(e))
	}
	add("%s", strings.Join(strings.Fields(tag.Get("words")), ", "))
	add("a name of %s", tag.Get("ref"))
	if low, high, ok := strings.Cut(tag.Get("range"), ".."); ok {
		if exclusive, open := strings.CutPrefix(low, "("); open {
			low = "above " + exclusive
		}
		add("%s", low+" to "+high)
	}
	add("%s turns it off", tag.Get("off"))
	add("true stands for %s", tag.Get("truth"))
	if tag.Get("single") != "" {
		parts = append(parts, "or one value alone")
	}
	add("at most %s", tag.Get("max"))
	add("with %s", strings.Join(strings.Fields(tag.Get("for")), ", "))
	return strings.Join(parts, "; ")
}

// kind is the word for a type.
func kind(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.StarExpr:
		return kind(t.X)
	case *ast.ArrayType:
		if id, ok := t.Elt.(*ast.Ident); ok && id.Name == "byte" {
			return "base64"
		}
		return "list"
	case *ast.MapType:
		return "mapping"
	case *ast.SelectorExpr:
		switch t.Sel.Name {
		case "Duration":
			return "duration"
		case "AddrPort":
			return "address:port"
		case "Addr":
			return "address"
		}
	case *ast.Ident:
		switch t.Name {
		case "bool":
			return "true or false"
		case "int", "int64", "uint16", "uint32", "float64":
			return "number"
		case "string", "Secret":
			return "text"
		}
	}
	return ""
}

func fallback(tag reflect.StructTag) string {
	switch {
	case tag.Get("required") == "true":
		return "required"
	case tag.Get("default") != "":
		return "`" + tag.Get("default") + "`"
	}
	return ""
}

// sentence makes one line of a comment.
func sentence(doc string) string { return strings.Join(strings.Fields(doc), " ") }

func upper(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	// Words of the protocols stay as they are written.
	if word, _, _ := strings.Cut(s, " "); strings.ContainsFunc(word[n:], unicode.IsUpper) {
		return s
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func must(s string, err error) string {
	if err != nil {
		panic(err) // the compiler has read it
	}
	return s
}
