package presubmit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The parts of a command's help that tell what exists, as cobra and pflag lay
// them out.
var (
	// One space is all that follows the longest name of a list.
	subcommandLine = regexp.MustCompile(`^  ([a-z][a-z0-9-]*)(?: |$)`)
	flagLine       = regexp.MustCompile(`^ +(?:-(\w), )?--([a-zA-Z][\w-]*)(?:\[=\S*\])?( \S+)?(?: {2,}|$)`)
)

// commandHelp is what a help text says of its command.
type commandHelp struct {
	subcommands []string
	flags       map[string]bool // by "--name" and "-n": takes a value
}

func parseHelp(text string) commandHelp {
	h := commandHelp{flags: map[string]bool{"--help": false, "-h": false}}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		if line != "" && !strings.HasPrefix(line, " ") {
			section = line
			continue
		}
		switch {
		case strings.HasSuffix(section, "Commands:"):
			if m := subcommandLine.FindStringSubmatch(line); m != nil {
				h.subcommands = append(h.subcommands, m[1])
			}
		case strings.HasSuffix(section, "Flags:"):
			if m := flagLine.FindStringSubmatch(line); m != nil {
				value := strings.TrimSpace(m[3]) != ""
				h.flags["--"+m[2]] = value
				if m[1] != "" {
					h.flags["-"+m[1]] = value
				}
			}
		}
	}
	return h
}

// checkPharos walks a command line down the program's own help.
func checkPharos(args []string, help Help) ([]string, error) {
	var faults, at []string
	text, err := help()
	if err != nil {
		return nil, err
	}
	known := parseHelp(text)
	descending := true
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			// What follows is another command's; one of ours is held to the same.
			if rest := args[i+1:]; len(rest) > 0 && rest[0] == "pharos" {
				inner, err := checkPharos(rest[1:], help)
				return append(faults, inner...), err
			}
			return faults, nil
		case strings.HasPrefix(arg, "-") && arg != "-":
			name, _, inOne := strings.Cut(arg, "=")
			takesValue, ok := known.flags[name]
			if !ok {
				faults = append(faults, fmt.Sprintf("pharos %shas no flag %s", prefix(at), name))
				continue
			}
			if takesValue && !inOne {
				i++
			}
		case descending && len(known.subcommands) > 0:
			if !slices.Contains(known.subcommands, arg) {
				// A command's flags can only be judged where the command is known.
				return append(faults, fmt.Sprintf("pharos %shas no command %q", prefix(at), arg)), nil
			}
			at = append(at, arg)
			text, err := help(at...)
			if err != nil {
				return nil, err
			}
			known = parseHelp(text)
		default:
			descending = false // an argument
		}
	}
	return faults, nil
}

func prefix(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return strings.Join(words, " ") + " "
}
