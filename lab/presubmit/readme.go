package presubmit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Help prints the help of a pharos command, given as its words after
// "pharos": none for the program itself.
type Help func(words ...string) (string, error)

// Readme holds the commands in README.md's ```sh and ```console blocks to what
// exists: targets of the Makefile, and subcommands and flags of pharos.
func Readme(root string, help Help) (Report, error) {
	var r Report
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return r, err
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	targets := makeTargets(string(makefile))
	for _, c := range shellCommands(string(text)) {
		c = c.bare()
		if len(c.words) == 0 {
			continue
		}
		var faults []string
		switch path.Base(c.words[0]) {
		case "make":
			faults = checkMake(c.words[1:], targets)
		case "pharos":
			if faults, err = checkPharos(c.words[1:], help); err != nil {
				return r, fmt.Errorf("README.md:%d: %w", c.line, err)
			}
		default:
			continue
		}
		r.Checked++
		for _, f := range faults {
			r.fault("README.md:%d: %s: %s", c.line, strings.Join(c.words, " "), f)
		}
	}
	return r, nil
}

// command is one simple command of a snippet.
type command struct {
	line  int // in the README, from 1
	words []string
}

var (
	fence      = regexp.MustCompile("^\\s*```+\\s*([a-z]*)\\s*$")
	assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	separators = []string{"&&", "||", ";", "|", "&"}
)

// bare is the command without variable assignments and sudo in front.
func (c command) bare() command {
	for len(c.words) > 0 && (assignment.MatchString(c.words[0]) || c.words[0] == "sudo") {
		c.words = c.words[1:]
	}
	return c
}

// shellCommands finds the commands in the shell snippets of a Markdown text. In
// a ```sh block every line is one; in a ```console block those after a prompt,
// "$ " or "# ", and the rest is output.
func shellCommands(text string) []command {
	var commands []command
	language, inBlock := "", false
	pending, pendingLine := "", 0
	for i, line := range strings.Split(text, "\n") {
		if m := fence.FindStringSubmatch(line); m != nil {
			inBlock = !inBlock
			language, pending = m[1], ""
			continue
		}
		if !inBlock || (language != "sh" && language != "bash" && language != "shell" && language != "console") {
			continue
		}
		line = strings.TrimSpace(line)
		if language == "console" && pending == "" {
			rest, ok := strings.CutPrefix(line, "$ ")
			if !ok {
				rest, ok = strings.CutPrefix(line, "# ")
			}
			if !ok {
				continue
			}
			line = rest
		}
		if pending == "" {
			pendingLine = i + 1
		}
		if rest, continued := strings.CutSuffix(line, `\`); continued {
			pending += rest + " "
			continue
		}
		for _, words := range simpleCommands(pending + line) {
			commands = append(commands, command{line: pendingLine, words: words})
		}
		pending = ""
	}
	return commands
}

// simpleCommands splits a shell line into commands and their words. Quotes
// keep blanks and separators; comments end the line; redirections stay words.
func simpleCommands(line string) [][]string {
	var (
		commands [][]string
		words    []string
		word     strings.Builder
		inWord   bool
		quote    rune
	)
	endWord := func() {
		if inWord {
			words = append(words, word.String())
			word.Reset()
			inWord = false
		}
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == '#' && !inWord:
			endCommand()
			return commands
		case c == ' ' || c == '\t':
			endWord()
		case slices.Contains(separators, string(c)): // && and || are two of them
			endCommand()
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	endCommand()
	return commands
}

var makeRule = regexp.MustCompile(`(?m)^([A-Za-z0-9_./ -]+?)\s*:(?:[^=]|$)`)

// makeTargets finds the targets that a Makefile names.
func makeTargets(makefile string) []string {
	var targets []string
	for _, m := range makeRule.FindAllStringSubmatch(makefile, -1) {
		targets = append(targets, strings.Fields(m[1])...)
	}
	return targets
}

func checkMake(words, targets []string) []string {
	var faults []string
	for _, w := range words {
		if strings.HasPrefix(w, "-") || assignment.MatchString(w) {
			continue
		}
		if !slices.Contains(targets, w) {
			faults = append(faults, fmt.Sprintf("the Makefile has no target %q", w))
		}
	}
	return faults
}
