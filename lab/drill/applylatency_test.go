package drill

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const document = `vips:
- name: web
pools:
- name: empty
- name: web
  balance: round_robin
  servers:
  - name: b1
    address: 10.0.21.2:8080
  - name: b2
    address: 10.0.22.2:8080
    weight: 7
`

func TestReweighChangesOneWeightAndNothingElse(t *testing.T) {
	variants, err := reweigh([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	if string(variants[0]) == string(variants[1]) {
		t.Error("both variants are the same")
	}
	for i, weight := range []string{"101", "102"} {
		got := strings.Replace(string(variants[i]), "    weight: "+weight+"\n", "", 1)
		want := strings.Replace(document, "- name: empty\n", "- name: empty\n", 1)
		if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
			t.Errorf("variant %d without its weight:\n%s", i, got)
		}
	}
	if _, err := reweigh([]byte("pools:\n- name: empty\n")); !errors.Is(err, ErrNoServer) {
		t.Errorf("without a server: %v", err)
	}
}

// A CLI of one file: apply stores what it is given, get prints it.
func fakeControl(t *testing.T, applyFails bool) (Control, func() string) {
	t.Helper()
	dir := t.TempDir()
	file, log := filepath.Join(dir, "config"), filepath.Join(dir, "log")
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	fails := "0"
	if applyFails {
		fails = "1"
	}
	script := `echo "$1" >>"$LOG"; case "$1" in get) cat "$FILE";; apply) if [ "$FAILS" = 1 ] && [ "$(grep -c apply "$LOG")" = 2 ]; then echo no leader >&2; exit 1; fi; cat >"$FILE";; esac`
	control := func(ctx context.Context, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sh"}, args...)...)
		cmd.Env = append(os.Environ(), "FILE="+file, "LOG="+log, "FAILS="+fails)
		return cmd
	}
	return control, func() string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

func TestMeasureApply(t *testing.T) {
	control, config := fakeControl(t, false)
	l, err := MeasureApply(t.Context(), control, 5)
	if err != nil {
		t.Fatal(err)
	}
	if l.Changes != 5 || l.P50 <= 0 || l.P99 < l.P50 || l.Max < l.P99 || l.Startup <= 0 {
		t.Errorf("%+v", l)
	}
	if config() != document {
		t.Errorf("the configuration was not put back:\n%s", config())
	}
}

func TestMeasureApplyThatFailsPutsTheConfigurationBack(t *testing.T) {
	control, config := fakeControl(t, true)
	if _, err := MeasureApply(t.Context(), control, 5); err == nil || !strings.Contains(err.Error(), "change 2 of 5") || !strings.Contains(err.Error(), "no leader") {
		t.Errorf("err = %v", err)
	}
	if config() != document {
		t.Errorf("the configuration was not put back:\n%s", config())
	}
}
