package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

func validFormat(cmd *cobra.Command, format string) error {
	switch format {
	case formatTable, formatJSON, formatYAML:
		return nil
	}
	return usage(cmd, "-o %q: table, json and yaml are known", format)
}

// show prints a view: as JSON or YAML by its json tags, or as the table that
// the function draws, whose cells end in tabs.
func (o *options) show(cmd *cobra.Command, view any, table func(io.Writer)) error {
	out := cmd.OutOrStdout()
	if o.output == formatTable {
		w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		table(w)
		return w.Flush()
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // "1 -> 3" is to be read by people as well
	if err := encoder.Encode(view); err != nil {
		return fmt.Errorf("print as %s: %w", o.output, err)
	}
	data := buffer.Bytes()
	var err error
	if o.output == formatYAML {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return fmt.Errorf("print as yaml: %w", err)
		}
		data = sexagesimal.ReplaceAll(data, []byte(`$1"$2"`))
	}
	_, err = fmt.Fprintln(out, strings.TrimRight(string(data), "\n"))
	return err
}

// sexagesimal finds text that YAML 1.1, unlike 1.2, takes for a number to the
// base of 60, such as the community 65010:1.
var sexagesimal = regexp.MustCompile(`(?m)^( *(?:- )*(?:\w+: )?)([0-9]+(?::[0-9]+)+)$`)

// row writes one line of a table.
func row(w io.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		if text := fmt.Sprint(cell); text != "" {
			fmt.Fprint(w, text)
		} else {
			fmt.Fprint(w, "-")
		}
	}
	fmt.Fprintln(w)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// stamp is a time as JSON shows it; nil if there is none.
func stamp(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// clock is a time as tables show it.
func clock(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// short rounds a duration to what a person reads.
func short(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(10 * time.Microsecond).String()
	}
}
