// Package presubmit holds the tests of the architecture: which package may
// import which, where files may lie, how long they may grow, and whether the
// README's commands exist. Each rule is a function of a source tree, so that
// its own test can show it a tree that breaks it.
package presubmit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// module is the path of this repository's module.
const module = "github.com/pharos-lb/pharos"

// maxLines is how long a file may be that nobody generates (STYLE: files are
// rooms).
const maxLines = 600

// Report is what a rule found.
type Report struct {
	Checked int      // things that the rule looked at: a rule that saw none has failed
	Faults  []string // what breaks the rule, and where
}

// Err is nil if the rule looked at something and found no fault.
func (r Report) Err() error {
	if r.Checked == 0 {
		return errors.New("the rule found nothing to look at")
	}
	if len(r.Faults) > 0 {
		slices.Sort(r.Faults)
		return errors.New(strings.Join(r.Faults, "\n"))
	}
	return nil
}

func (r *Report) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// source is one Go file of the tree.
type source struct {
	path      string // from the root, with slashes
	test      bool
	generated bool
	data      []byte
	ast       *ast.File // imports and comments only
}

// dir is the package's folder.
func (s source) dir() string { return path.Dir(s.path) }

// imports are the paths that the file imports.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.ast.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// readSources parses the Go files below root, without testdata and folders
// whose name begins with a dot or an underscore, as the go command does.
func readSources(root string) ([]source, error) {
	var sources []source
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if file != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, data, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		sources = append(sources, source{
			path: filepath.ToSlash(rel), test: strings.HasSuffix(name, "_test.go"),
			generated: generatedLine.Match(data), data: data, ast: parsed,
		})
		return nil
	})
	return sources, err
}

// PackageComments wants a comment on each package, in a file that is not a
// test. Packages that are generated as a whole are left out.
func PackageComments(root string) (Report, error) {
	var r Report
	sources, err := readSources(root)
	if err != nil {
		return r, err
	}
	documented := map[string]bool{}
	for _, s := range sources {
		if s.test || s.generated {
			continue
		}
		documented[s.dir()] = documented[s.dir()] || (s.ast.Doc != nil && strings.TrimSpace(s.ast.Doc.Text()) != "")
	}
	for dir, ok := range documented {
		r.Checked++
		if !ok {
			r.fault("%s: the package has no comment", dir)
		}
	}
	return r, nil
}

// FileLengths wants no file over 600 lines, unless it is generated.
func FileLengths(root string) (Report, error) {
	var r Report
	sources, err := readSources(root)
	if err != nil {
		return r, err
	}
	for _, s := range sources {
		if s.generated {
			continue
		}
		r.Checked++
		if lines := bytes.Count(s.data, []byte("\n")); lines > maxLines {
			r.fault("%s: %d lines, at most %d: one concern a file", s.path, lines, maxLines)
		}
	}
	return r, nil
}

// The top level of the tree is fixed. Names that begin with a dot are free.
var (
	topFolders = []string{"cmd", "node", "bgp", "vip", "proxy", "cluster", "lab"}
	topFiles   = []string{"go.mod", "go.sum", "Makefile", "README.md", "CHANGELOG.md", "LICENSE"}
)

// Layout wants nothing else at the top than the fixed folders and files, what
// .gitignore names there aside; and, once there is a program, all the files.
func Layout(root string) (Report, error) {
	var r Report
	entries, err := os.ReadDir(root)
	if err != nil {
		return r, err
	}
	ignored, err := ignoredAtTop(root)
	if err != nil {
		return r, err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || slices.Contains(ignored, name) {
			continue
		}
		r.Checked++
		allowed := topFiles
		if e.IsDir() {
			allowed = topFolders
		}
		if !slices.Contains(allowed, name) {
			r.fault("%s: does not belong at the top: only %s", name, strings.Join(allowed, ", "))
		}
	}
	required := []string{"go.mod", "go.sum", "CHANGELOG.md", "LICENSE"}
	if hasProgram(root) {
		required = topFiles
	}
	for _, name := range required {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Size() == 0 {
			r.fault("%s: is missing or empty", name)
		}
	}
	return r, nil
}

// hasProgram says whether the tree has come as far as a program to describe.
func hasProgram(root string) bool {
	_, err := os.Stat(filepath.Join(root, "cmd", "pharos", "main.go"))
	return err == nil
}

// ignoredAtTop reads the names that .gitignore anchors at the top: "/bin/".
func ignoredAtTop(root string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if name, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "/"); ok {
			names = append(names, strings.TrimSuffix(name, "/"))
		}
	}
	return names, nil
}
