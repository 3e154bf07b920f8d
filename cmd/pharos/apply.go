package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pharos-lb/pharos/cluster/api"
	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

type changeView struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Action string   `json:"action"`
	Fields []string `json:"fields,omitempty"`
}

type appliedView struct {
	Node    string `json:"node"`
	Applied bool   `json:"applied"`
	Reason  string `json:"reason,omitempty"`
	Took    string `json:"took"`
}

type applyView struct {
	Version uint64        `json:"version"`
	DryRun  bool          `json:"dry_run,omitempty"`
	Changes []changeView  `json:"changes"`
	Nodes   []appliedView `json:"nodes,omitempty"`
}

func applyViewOf(answer *pharosv1.ApplyResponse) applyView {
	view := applyView{Version: answer.GetVersion(), Changes: []changeView{}}
	for _, c := range answer.GetChanges() {
		view.Changes = append(view.Changes, changeView{Kind: c.GetKind(), Name: c.GetName(), Action: c.GetAction(), Fields: c.GetFields()})
	}
	for _, n := range answer.GetNodes() {
		view.Nodes = append(view.Nodes, appliedView{Node: n.GetNode(), Applied: n.GetApplied(), Reason: n.GetReason(), Took: short(n.GetTook().AsDuration())})
	}
	return view
}

func changeLines(w io.Writer, changes []changeView) {
	for _, c := range changes {
		sign := map[string]string{"add": "+", "remove": "-"}[c.Action]
		if sign == "" {
			sign = "~"
		}
		fields := ""
		if c.Action == "change" {
			fields = ": " + strings.Join(c.Fields, ", ")
		}
		fmt.Fprintf(w, "%s %s %s%s\n", sign, c.Kind, c.Name, fields)
	}
}

// readDocument reads a configuration from a file, or from standard input for "-".
func readDocument(cmd *cobra.Command, file string) (name string, document []byte, err error) {
	switch file {
	case "":
		return "", nil, usage(cmd, "-f FILE is required; \"-f -\" reads standard input")
	case "-":
		name = "stdin"
		document, err = io.ReadAll(cmd.InOrStdin())
	default:
		name = file
		document, err = os.ReadFile(file)
	}
	if err != nil {
		return "", nil, fmt.Errorf("read the configuration: %w", err)
	}
	return name, document, nil
}

func newApplyCommand(o *options) *cobra.Command {
	var file string
	var wait, dryRun bool
	var waitTimeout time.Duration
	var base uint64
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make a document the cluster's configuration",
		Long: `Validate a whole configuration document and replicate it. A document with faults
is refused as a whole: each fault is printed with its line, column and field,
and nothing changes.

With --wait it returns when every live node runs the new version, and fails if
one cannot; the version stays the cluster's in that case, and such a node goes
on with the one before. The last writer wins, unless --if-version is given.`,
		Example: "  pharos apply -f cluster.yaml --wait",
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if waitTimeout <= 0 {
				return usage(cmd, "--wait-timeout %v: must be more than 0", waitTimeout)
			}
			name, document, err := readDocument(cmd, file)
			if err != nil {
				return err
			}
			request := &pharosv1.ApplyRequest{File: name, Document: document, DryRun: dryRun, Wait: wait, WaitTimeout: durationpb.New(waitTimeout)}
			if cmd.Flags().Changed("if-version") {
				request.Base = &base
			}
			return o.ask(cmd, waitTimeout, func(ctx context.Context, client *api.Client) error {
				answer, err := client.Apply(ctx, request)
				if err != nil {
					return err
				}
				view := applyViewOf(answer)
				view.DryRun = dryRun
				if err := o.show(cmd, view, func(w io.Writer) { applyTable(w, view) }); err != nil {
					return err
				}
				return view.unapplied()
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the document, or - for standard input (required)")
	cmd.Flags().BoolVar(&wait, "wait", false, "return when every live node runs it")
	cmd.Flags().DurationVar(&waitTimeout, "wait-timeout", 10*time.Second, "how long --wait waits, at most 10m")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "validate and show the changes only")
	cmd.Flags().Uint64Var(&base, "if-version", 0, "refuse if the cluster's version is not this one any more")
	return cmd
}

func applyTable(w io.Writer, view applyView) {
	changeLines(w, view.Changes)
	switch {
	case view.DryRun:
		fmt.Fprintf(w, "The document is valid: %d change(s) to version %d. Nothing was changed.\n", len(view.Changes), view.Version)
	case len(view.Changes) == 0:
		fmt.Fprintf(w, "Version %d: no changes.\n", view.Version)
	default:
		fmt.Fprintf(w, "Version %d: %d change(s).\n", view.Version, len(view.Changes))
	}
	if len(view.Nodes) == 0 {
		return
	}
	row(w, "NODE", "APPLIED", "TOOK", "REASON")
	for _, n := range view.Nodes {
		row(w, n.Node, yesNo(n.Applied), n.Took, n.Reason)
	}
}

// unapplied is an error if a node that was waited for does not run the version.
func (v applyView) unapplied() error {
	var names []string
	for _, n := range v.Nodes {
		if !n.Applied {
			names = append(names, n.Node)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("version %d is the cluster's now, but does not run on %s: mend the reason shown, or apply a configuration that runs", v.Version, strings.Join(names, ", "))
}

// errDiffers ends diff --exit-code with 1, without a word.
var errDiffers = errors.New("")

func newDiffCommand(o *options) *cobra.Command {
	var file string
	var exitCode bool
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long: `Validate a configuration document and compare it with the configuration that the
asked node knows. Changes nothing. The exit code is 0 whether there are
differences or not; with --exit-code it is 1 if there are.`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, document, err := readDocument(cmd, file)
			if err != nil {
				return err
			}
			return o.ask(cmd, 0, func(ctx context.Context, client *api.Client) error {
				answer, err := client.Apply(ctx, &pharosv1.ApplyRequest{File: name, Document: document, DryRun: true})
				if err != nil {
					return err
				}
				view := applyViewOf(answer)
				if err := o.show(cmd, view, func(w io.Writer) { diffTable(w, view) }); err != nil {
					return err
				}
				if exitCode && len(view.Changes) > 0 {
					return errDiffers
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the document, or - for standard input (required)")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 1 if there are differences")
	return cmd
}

func diffTable(w io.Writer, view applyView) {
	changeLines(w, view.Changes)
	if len(view.Changes) == 0 {
		fmt.Fprintf(w, "No changes to version %d.\n", view.Version)
	}
}
