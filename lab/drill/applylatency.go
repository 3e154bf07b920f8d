package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/pharos-lb/pharos/lab/drill/oracle"
)

// Control runs the product's CLI as an operator of the cluster would.
type Control func(ctx context.Context, args ...string) *exec.Cmd

// ApplyLatency is how long "pharos apply --wait" took, command and all: from
// when its process was started until it had ended, every live node running the
// new version.
type ApplyLatency struct {
	Changes       int
	P50, P99, Max time.Duration
	// Startup is the median time of "pharos version", of which each apply
	// spends about as much before it does anything.
	Startup time.Duration
}

// ErrNoServer says that the configuration has no server to change.
var ErrNoServer = errors.New("the cluster's configuration has no pool with a server")

// MeasureApply changes the weight of one server so many times, each change
// with apply --wait, and puts the configuration back as it was.
func MeasureApply(ctx context.Context, control Control, changes int) (l ApplyLatency, err error) {
	if changes < 1 || changes > 100_000 {
		return l, fmt.Errorf("changes: %d is not within 1 to 100000", changes)
	}
	original, err := output(control(ctx, "get", "-o", "yaml"))
	if err != nil {
		return l, fmt.Errorf("read the cluster's configuration: %w", err)
	}
	variants, err := reweigh(original)
	if err != nil {
		return l, err
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
		defer cancel()
		if undo := apply(clean, control, original); undo != nil {
			err = errors.Join(err, fmt.Errorf("the configuration was NOT put back: %w", undo))
		}
	}()
	var took, startup []time.Duration
	for i := range changes {
		start := time.Now()
		if err := apply(ctx, control, variants[i%len(variants)]); err != nil {
			return l, fmt.Errorf("change %d of %d: %w", i+1, changes, err)
		}
		took = append(took, time.Since(start))
	}
	for range min(changes, 20) {
		start := time.Now()
		if _, err := output(control(ctx, "version")); err != nil {
			return l, fmt.Errorf("measure the start of the CLI: %w", err)
		}
		startup = append(startup, time.Since(start))
	}
	slices.Sort(took)
	slices.Sort(startup)
	return ApplyLatency{
		Changes: changes, P50: oracle.Percentile(took, 50), P99: oracle.Percentile(took, 99), Max: took[len(took)-1],
		Startup: oracle.Percentile(startup, 50),
	}, nil
}

// restoreTimeout bounds the last apply.
const restoreTimeout = 30 * time.Second

func apply(ctx context.Context, control Control, document []byte) error {
	cmd := control(ctx, "apply", "--wait", "-f", "-")
	cmd.Stdin = bytes.NewReader(document)
	_, err := output(cmd)
	return err
}

func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// reweigh makes two documents of one, which differ from it, and from each
// other, in the weight of the first server of the first pool that has one.
func reweigh(document []byte) ([2][]byte, error) {
	var out [2][]byte
	for i, weight := range []int{101, 102} {
		var root yaml.MapSlice // keeps the order of what it does not touch
		if err := yaml.UnmarshalWithOptions(document, &root, yaml.UseOrderedMap()); err != nil {
			return out, fmt.Errorf("read the cluster's configuration: %w", err)
		}
		if !setWeight(root, weight) {
			return out, ErrNoServer
		}
		text, err := yaml.Marshal(root)
		if err != nil {
			return out, fmt.Errorf("write the changed configuration: %w", err)
		}
		out[i] = text
	}
	return out, nil
}

func setWeight(root yaml.MapSlice, weight int) bool {
	pools, _ := value(root, "pools").([]any)
	for _, p := range pools {
		pool, _ := p.(yaml.MapSlice)
		servers, _ := value(pool, "servers").([]any)
		if len(servers) == 0 {
			continue
		}
		server, _ := servers[0].(yaml.MapSlice)
		for i := range server {
			if server[i].Key == "weight" {
				server[i].Value = weight
				return true
			}
		}
		servers[0] = append(server, yaml.MapItem{Key: "weight", Value: weight})
		return true
	}
	return false
}

func value(m yaml.MapSlice, key string) any {
	for _, item := range m {
		if item.Key == key {
			return item.Value
		}
	}
	return nil
}
