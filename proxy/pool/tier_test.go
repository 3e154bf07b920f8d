package pool

import (
	"testing"
	"time"
)

func TestTiersAreSaidOnceAndWarnedOf(t *testing.T) {
	const (
		open    = "no server is healthy: failing open"
		backup  = "no primary server is usable"
		primary = "served by its primary servers again"
	)
	s := spec(true, a, b, c)
	s.Health.Fall, s.Health.Rise = 1, 1
	live(t, s, func(r *rig) {
		warning := func(when, want string) {
			t.Helper()
			if got := r.Warning(); got != want {
				t.Errorf("%s: warning %q, want %q", when, got, want)
			}
		}
		said := func(when string, opens, backups, primaries int) {
			t.Helper()
			if r.logged(open) != opens || r.logged(backup) != backups || r.logged(primary) != primaries {
				t.Errorf("%s: said %d, %d, %d times, want %d, %d, %d\n%s", when, r.logged(open), r.logged(backup), r.logged(primary), opens, backups, primaries, r.log)
			}
		}
		r.check("a", false)
		r.check("b", false)
		warning("not all were checked", "")
		said("not all were checked", 0, 0, 0)
		r.check("c", false)
		warning("all are down", "no server is healthy: failing open to all 3")
		r.poke()
		r.after(time.Hour)
		said("all are down from the first check", 1, 0, 0)
		r.check("c", true)
		warning("the backup is up", "no primary server is usable: backup c takes the work")
		r.want("the backup is up", "c")
		said("the backup is up", 1, 1, 0)
		r.check("a", true)
		warning("a primary is up", "")
		said("a primary is up", 1, 1, 1)
		r.check("a", false)
		r.check("c", false)
		said("all are down again", 2, 2, 1)
	})
}

func TestFailClosedRefuses(t *testing.T) {
	s := spec(true, a)
	s.FailOpen, s.Health.Fall = false, 1
	live(t, s, func(r *rig) {
		r.want("not checked yet", "")
		r.check("a", true)
		r.want("up", "a")
		r.check("a", false)
		r.want("down", "")
		if got := r.Warning(); got != "no server may take work: requests are refused" {
			t.Errorf("warning = %q", got)
		}
	})
}
