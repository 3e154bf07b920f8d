package guard

import (
	"bytes"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pharos-lb/pharos/bgp/guard/guardtest"
)

var (
	opened  = openMessage(65000, 9, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0, 65, 4, 0, 0, 0xfd, 0xe8)
	started = time.Unix(1_000_000, 0)
)

// established is a filter that has let a session come about.
func established(t testing.TB) *Filter {
	t.Helper()
	f := &Filter{}
	for _, msg := range [][]byte{opened, keepalive} {
		if pass, refusal := f.Judge(msg, started); refusal != nil || pass == nil {
			t.Fatalf("the beginning of a session: %x, %+v", pass, refusal)
		}
	}
	return f
}

func TestNoUpdatePasses(t *testing.T) {
	f := established(t)
	update := AppendMessage(nil, TypeUpdate, 0, 0, 0, 0, 32, 198, 51, 100, 1)
	for i := range 10 {
		now := started.Add(time.Duration(i) * 50 * time.Millisecond)
		pass, refusal := f.Judge(update, now)
		if refusal != nil {
			t.Fatalf("refused: %+v", refusal)
		}
		// It stands for a KEEPALIVE, five times a second at most.
		if want := i > 0 && i%4 == 0; want != bytes.Equal(pass, keepalive) || pass != nil && !want {
			t.Errorf("after %d ms the engine is given %x", i*50, pass)
		}
	}
}

func TestUndueMessagesEndTheSession(t *testing.T) {
	update, refresh := AppendMessage(nil, TypeUpdate, 0, 0, 0, 0), AppendMessage(nil, TypeRouteRefresh, 0, 1, 0, 1)
	cease := AppendMessage(nil, TypeNotification, 6, 2)
	for _, test := range []struct {
		name          string
		before        [][]byte
		msg           []byte
		code, subcode uint8 // RFC 6608 3
	}{
		{"KEEPALIVE for an OPEN", nil, keepalive, 5, 1},
		{"UPDATE for an OPEN", nil, update, 5, 1},
		{"ROUTE-REFRESH for an OPEN", nil, refresh, 5, 1},
		{"UPDATE for a KEEPALIVE", [][]byte{opened}, update, 5, 2},
		{"a second OPEN for a KEEPALIVE", [][]byte{opened}, opened, 5, 2},
		{"a second OPEN", [][]byte{opened, keepalive}, opened, 5, 3},
		{"more after the end", [][]byte{opened, keepalive, cease}, keepalive, 5, 0},
		{"capability beyond the OPEN's end", nil, openMessage(65000, 9, 65, 4, 0, 1), 2, 0},
		{"parameter beyond the OPEN's end", nil, AppendMessage(nil, TypeOpen, 4, 0, 1, 0, 9, 10, 0, 0, 1, 4, 2, 200, 1, 4), 2, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &Filter{}
			for _, msg := range test.before {
				if _, refusal := f.Judge(msg, started); refusal != nil {
					t.Fatalf("refused before: %+v", refusal)
				}
			}
			pass, refusal := f.Judge(test.msg, started)
			if pass != nil || refusal == nil || refusal.Code != test.code || refusal.Subcode != test.subcode || refusal.Reason == "" {
				t.Fatalf("passed %x, refused %+v", pass, refusal)
			}
			if pass, refusal := f.Judge(keepalive, started); pass != nil || refusal == nil {
				t.Errorf("after the refusal passed %x, refused %+v", pass, refusal)
			}
		})
	}
}

func TestWhatTheEngineIsGiven(t *testing.T) {
	later := started.Add(time.Minute)
	notification := append([]byte{6, 2, 255}, bytes.Repeat([]byte{0xff}, 300)...)
	for _, test := range []struct {
		name      string
		f         *Filter
		msg, want []byte
	}{
		{"OPEN as it is", &Filter{}, opened, opened},
		{
			"OPEN without what we have no use for", &Filter{},
			openMessage(65000, 9, 1, 4, 0, 1, 0, 1, 1, 4, 0, 1, 0, 128, 64, 6, 0, 120, 0, 1, 1, 0, 73, 5, 3, 't', 'o', 'r', 0, 69, 4, 0, 1, 1, 3),
			openMessage(65000, 9, 1, 4, 0, 1, 0, 1),
		},
		{"OPEN without capabilities", &Filter{}, openMessage(65000, 9), openMessage(65000, 9)},
		{"OPEN of another family alone: IPv4 is not meant", &Filter{}, openMessage(65000, 9, 1, 4, 0, 1, 0, 128), openMessage(65000, 9, 1, 4, 0, 1, 0, 128)},
		{"OPEN with capabilities of wrong lengths", &Filter{}, openMessage(65000, 9, 1, 2, 0, 1, 65, 2, 0, 1, 2, 1, 0), openMessage(65000, 9)},
		{"NOTIFICATION without its data", established(t), AppendMessage(nil, TypeNotification, notification...), AppendMessage(nil, TypeNotification, 6, 2)},
		{"ROUTE-REFRESH", established(t), AppendMessage(nil, TypeRouteRefresh, 0, 2, 0, 1), AppendMessage(AppendMessage(nil, TypeRouteRefresh, 0, 2, 0, 1), TypeKeepalive)},
		{"ROUTE-REFRESH of another family", established(t), AppendMessage(nil, TypeRouteRefresh, 0, 1, 0, 128), keepalive},
		{"demarcation, RFC 7313", established(t), AppendMessage(nil, TypeRouteRefresh, 0, 1, 1, 1), keepalive},
		{"filter, RFC 5291", established(t), AppendMessage(nil, TypeRouteRefresh, 0, 1, 0, 1, 1, 64, 0, 200), keepalive},
	} {
		t.Run(test.name, func(t *testing.T) {
			pass, refusal := test.f.Judge(test.msg, later)
			if refusal != nil || !bytes.Equal(pass, test.want) {
				t.Errorf("given %x, refused %+v; want %x", pass, refusal, test.want)
			}
		})
	}
}

func TestRefreshesArePaced(t *testing.T) {
	f := established(t)
	v4, v6 := AppendMessage(nil, TypeRouteRefresh, 0, 1, 0, 1), AppendMessage(nil, TypeRouteRefresh, 0, 2, 0, 1)
	with := func(msg []byte) []byte { return append(bytes.Clone(msg), keepalive...) }
	for _, step := range []struct {
		after     time.Duration
		msg, want []byte
	}{
		{0, v4, with(v4)},
		{time.Millisecond, v4, nil},
		{2 * time.Millisecond, v6, with(v6)},
		{3 * time.Millisecond, v4, nil},
		{999 * time.Millisecond, keepalive, keepalive},
		{1000 * time.Millisecond, keepalive, with(v4)}, // what it asked for meanwhile, once
		{1300 * time.Millisecond, keepalive, keepalive},
		{2100 * time.Millisecond, v4, with(v4)},
	} {
		if pass, refusal := f.Judge(step.msg, started.Add(step.after)); refusal != nil || !bytes.Equal(pass, step.want) {
			t.Errorf("after %s: %x, %+v; want %x", step.after, pass, refusal, step.want)
		}
	}
}

// What the engine is given says what the router said, as far as it matters.
func TestAnOpenMeansTheSameAfterwards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var capabilities []byte
		for range rapid.IntRange(0, 6).Draw(t, "capabilities") {
			code := rapid.SampledFrom([]byte{1, 1, 2, 5, 6, 64, 65, 69, 70, 73, 200}).Draw(t, "code")
			value := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 128, 255}), 0, 6).Draw(t, "value")
			capabilities = append(append(capabilities, code, byte(len(value))), value...)
		}
		msg := openMessage(rapid.Uint16().Draw(t, "asn"), rapid.Uint16().Draw(t, "hold time"), capabilities...)
		before, err := ParseOpen(msg)
		if err != nil {
			t.Fatal(err)
		}
		pass, refusal := (&Filter{}).Judge(msg, started)
		if refusal != nil {
			t.Fatalf("refused: %+v", refusal)
		}
		if n, err := CheckHeader(pass); err != nil || n != len(pass) {
			t.Fatalf("header of %x: %d, %v", pass, n, err)
		}
		after, err := ParseOpen(pass)
		if before.IPv4 || before.IPv6 {
			before.other, after.other = [4]byte{}, [4]byte{}
		}
		if err != nil || after != before {
			t.Fatalf("%+v became %+v, %v", before, after, err)
		}
	})
}

func TestAFullTableCostsNothing(t *testing.T) {
	f := established(t)
	update := AppendMessage(nil, TypeUpdate, make([]byte, 4000)...)
	now := started
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Millisecond)
		f.Judge(update, now)
	}); n != 0 {
		t.Errorf("%v allocations for each UPDATE", n)
	}
}

func BenchmarkUpdate(b *testing.B) {
	f := established(b)
	stream := AppendMessage(nil, TypeUpdate, make([]byte, 500)...)
	buf := make([]byte, MaxMessage)
	r := bytes.NewReader(stream)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(stream)
		msg, err := ReadMessage(r, buf)
		if err != nil {
			b.Fatal(err)
		}
		f.Judge(msg, started)
	}
}

func FuzzFilter(f *testing.F) {
	session := append(bytes.Clone(opened), keepalive...)
	f.Add(session)
	for _, p := range guardtest.Poisons() {
		f.Add(append(bytes.Clone(session), p.Message...))
	}
	f.Add(append(bytes.Clone(session), AppendMessage(nil, TypeNotification, 6, 2, 200, 'x')...))
	f.Add(append(bytes.Clone(session), AppendMessage(nil, TypeRouteRefresh, 0, 1, 0, 1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		filter, r, buf := &Filter{}, bytes.NewReader(b), make([]byte, MaxMessage)
		now := started
		for {
			msg, err := ReadMessage(r, buf)
			if err != nil {
				return
			}
			now = now.Add(time.Second)
			pass, refusal := filter.Judge(msg, now)
			if refusal != nil {
				if pass != nil || refusal.Code == 0 || refusal.Reason == "" {
					t.Fatalf("passed %x, refused %+v", pass, refusal)
				}
				return
			}
			if pass == nil {
				continue
			}
			checkPassed(t, pass)
		}
	})
}

// checkPassed holds what the engine is given to what can be made of it.
func checkPassed(t *testing.T, pass []byte) {
	for r := bytes.NewReader(pass); ; {
		msg, err := ReadMessage(r, make([]byte, MaxMessage))
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%x passed: %v", pass, err)
		}
		switch TypeOf(msg) {
		case TypeUpdate:
			t.Fatalf("an UPDATE passed: %x", msg)
		case TypeOpen:
			if _, err := ParseOpen(msg); err != nil || len(msg) > HeaderLen+10+2+22 {
				t.Fatalf("an OPEN passed: %x, %v", msg, err)
			}
		case TypeNotification, TypeRouteRefresh:
			if len(msg) > HeaderLen+4 {
				t.Fatalf("%x passed", msg)
			}
		case TypeKeepalive:
		}
	}
}
