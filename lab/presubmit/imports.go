package presubmit

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

// mayImport says, for each top-level folder, what else of this module its
// packages may import (DESIGN.md, "Imports"). A name stands for the folder and
// all below it.
func mayImport() map[string][]string {
	return map[string][]string{
		"cmd":     {"node", "cluster/api", "lab"},
		"node":    {"cluster", "bgp", "vip", "proxy"},
		"bgp":     nil,
		"vip":     nil,
		"proxy":   nil,
		"cluster": nil,
		"lab":     {"cluster/api"},
	}
}

// pure are the packages that decide and do not act: their code, tests aside,
// must do without these imports.
func pure() (folders, forbidden []string) {
	return []string{"cluster/registry", "cluster/fsm", "proxy/policy", "vip/owner", "lab/drill/oracle"},
		[]string{"net/http", "os", "os/exec", "syscall", "log", "log/slog", "golang.org/x/sys/unix"}
}

// Imports holds each package to mayImport, the pure ones to doing no I/O, and
// GoBGP to one file.
func Imports(root string) (Report, error) {
	var r Report
	sources, err := readSources(root)
	if err != nil {
		return r, err
	}
	rules := mayImport()
	pureFolders, forbidden := pure()
	for _, s := range sources {
		r.Checked++
		room, _, _ := strings.Cut(s.path, "/")
		allowed, known := rules[room]
		if !known {
			r.fault("%s: no rule says what its folder may import", s.path)
			continue
		}
		for _, imported := range s.imports() {
			if inside, ok := strings.CutPrefix(imported, module+"/"); ok {
				if !within(inside, room) && !slices.ContainsFunc(allowed, func(a string) bool { return within(inside, a) }) {
					r.fault("%s: imports %s, and %s may import only %s", s.path, inside, room, words(allowed))
				}
			}
			isPure := slices.ContainsFunc(pureFolders, func(f string) bool { return within(s.dir(), f) })
			if isPure && !s.test && slices.Contains(forbidden, imported) {
				r.fault("%s: imports %s, and this package decides without doing I/O", s.path, imported)
			}
			if isPure && !s.test && imported == "net" {
				for _, name := range socketsOf(s) {
					r.fault("%s: uses net.%s, and this package decides without doing I/O", s.path, name)
				}
			}
			if strings.HasPrefix(imported, "github.com/osrg/gobgp/") && s.path != "bgp/gobgp.go" && !s.test {
				r.fault("%s: imports GoBGP, which only bgp/gobgp.go may", s.path)
			}
		}
	}
	return r, nil
}

var opensSockets = regexp.MustCompile(`^(Dial|Listen|Lookup|Resolve|Interface|File)|^(Dialer|Resolver|DefaultResolver)$`)

// socketsOf finds what a file uses of package net beyond parsing and printing
// addresses.
func socketsOf(s source) []string {
	file, err := parser.ParseFile(token.NewFileSet(), s.path, s.data, 0)
	if err != nil {
		return []string{"? (the file cannot be parsed)"}
	}
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok && x.Name == "net" && opensSockets.MatchString(selector.Sel.Name) {
				names = append(names, selector.Sel.Name)
			}
		}
		return true
	})
	return names
}

// within says whether a package path is a folder or below it.
func within(p, folder string) bool {
	return p == folder || strings.HasPrefix(p, path.Clean(folder)+"/")
}

func words(list []string) string {
	if len(list) == 0 {
		return "itself"
	}
	return strings.Join(list, ", ") + " and itself"
}
