package netns

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// sysctlScript writes pairs of (file, value).
const sysctlScript = `while [ $# -gt 0 ]; do echo "$2" >"$1" || { echo "$1: cannot be set to $2" >&2; exit 1; }; shift 2; done`

// setSysctls writes sysctls inside a network namespace. Only those of the
// network are a namespace's own; others would change the machine, and are
// refused.
//
// A process of its own enters the namespace, rather than a thread of this one:
// it could be the main thread, and this whole process would then look like one
// of the lab's, which Down ends.
func setSysctls(ctx context.Context, netnsPath string, sysctls map[string]string) error {
	args := []string{"--net=" + netnsPath, "--", "sh", "-c", sysctlScript, "sh"}
	// Sorted: "all" and "default" come before names such as eth1.
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		if !strings.HasPrefix(key, "net.") {
			return fmt.Errorf("sysctl %s: a network namespace has only those that begin with net", key)
		}
		file := filepath.Join("/proc/sys", filepath.FromSlash(strings.ReplaceAll(key, ".", "/")))
		args = append(args, file, sysctls[key])
	}
	out, err := exec.CommandContext(ctx, "nsenter", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("set sysctls: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
