//go:build !race

// Not under the race detector: crypto/tls's buffers are in a sync.Pool, which
// forgets at random then.

package secure

import "testing"

// What a request allocates is crypto/tls's reader of one record.
func TestRequestAllocations(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		rig := newBench(Limits{})
		defer rig.handshakes.Close()
		h, _, seal, _ := rig.connect(t, serverConfig(), clientConfig(version), make([]byte, 128))
		const runs = 200
		sealed := make([][]byte, runs+1)
		for i := range sealed {
			sealed[i] = seal(make([]byte, 128))
		}
		i := 0
		if n := testing.AllocsPerRun(runs, func() { h.Data(sealed[i]); i++ }); n > 1 {
			t.Errorf("%v allocations for a request, want at most 1", n)
		}
	})
}
