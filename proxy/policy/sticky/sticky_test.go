package sticky

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// request is a policy.Request with one cookie.
type request struct {
	name, value string
	view        []byte
}

func (r *request) Method() []byte               { return []byte("GET") }
func (r *request) Host() []byte                 { return nil }
func (r *request) Path() []byte                 { return []byte("/") }
func (r *request) Query() []byte                { return nil }
func (r *request) Header(string) ([]byte, bool) { return nil, false }
func (r *request) Client() netip.Addr           { return netip.Addr{} }
func (r *request) Cookie(name string) ([]byte, bool) {
	return r.view, name == r.name
}

func sent(name, value string) *request {
	return &request{name: name, value: value, view: []byte(value)}
}

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	old  = Key{1}
	next = Key{2}
)

// counting is a source of nonces that are all different.
func counting() func([]byte) {
	n := byte(0)
	return func(b []byte) {
		n++
		for i := range b {
			b[i] = n
		}
	}
}

func newJar(t testing.TB, c Config, pool string, keys ...Key) *Jar {
	t.Helper()
	if c.Name == "" {
		c.Name = "SERVERID"
	}
	j, err := New(c, pool, keys, counting())
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return j
}

// made is the value of the cookie, without name and attributes.
func made(t testing.TB, j *Jar, server string, first, now time.Time) string {
	t.Helper()
	b, err := j.Append(nil, new(Scratch), server, first, now)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	value, _, _ := strings.Cut(strings.TrimPrefix(string(b), j.before), ";")
	return value
}

func parse(j *Jar, value string, now time.Time) Decision {
	return j.Parse(sent(j.config.Name, value), now, new(Scratch))
}

// formats are all of them, each with a jar's worth of keys.
var formats = []Format{Plain, Signed, Hidden}

func TestWhatIsMadeIsRead(t *testing.T) {
	servers := []string{"web1", "a", "node_01.example.com:8080", strings.Repeat("x", MaxServer), "with space; and \"more\" 100%\\ä\x00", strings.Repeat("ä", MaxServer/2)}
	for _, f := range formats {
		j := newJar(t, Config{Format: f}, "web", old)
		for _, server := range servers {
			value := made(t, j, server, time.Time{}, noon)
			if len(value) > maxValue {
				t.Errorf("%s: %q makes %d bytes, more than are read", f, server, len(value))
			}
			for i := range len(value) {
				if c := value[i]; c != '%' && !inValue(c) {
					t.Fatalf("%s: %q holds %q, which no cookie may", f, value, c)
				}
			}
			d := parse(j, value, noon)
			if d.Verdict != Valid || string(d.Server) != server || d.Refresh || !d.Stays(server) || d.Stays(server+"x") {
				t.Errorf("%s: %q makes %q, which reads as %+v", f, server, value, d)
			}
			if f != Plain && (!d.First.Equal(noon) || !d.Last.Equal(noon)) {
				t.Errorf("%s: dates %v and %v, want %v", f, d.First, d.Last, noon)
			}
		}
	}
}

// Cookies outlive upgrades, so values made once must be read for ever.
func TestFormatsAreStable(t *testing.T) {
	tests := []struct {
		format Format
		value  string
	}{
		{Plain, "web1"},
		{Signed, "1BppCpABppCpAnKeojZVz2L3i3tsWjqilEAweb1"},
		{Hidden, "2AQEBAQEBAQEBAQEBJaTzsOmNih5r60NLfB2z2uwEKokEVeP3i3hfNY0-YXQxuu__SV4HkYH9XyINXEVL"},
	}
	for _, tt := range tests {
		t.Run(string(tt.format), func(t *testing.T) {
			j := newJar(t, Config{Format: tt.format}, "web", old)
			if got := made(t, j, "web1", time.Time{}, noon); got != tt.value {
				t.Errorf("value %q, want %q", got, tt.value)
			}
			if d := parse(j, tt.value, noon); d.Verdict != Valid || string(d.Server) != "web1" {
				t.Errorf("it reads as %+v", d)
			}
		})
	}
}

// The MAC is computed without crypto/hmac, and must be what that computes.
func TestMACIsHMAC(t *testing.T) {
	derived, err := hkdf.Key(sha256.New, old[:], nil, "pharos sticky signed 1 web", 32)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newSigner(old, "web")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		head := rapid.SliceOfN(rapid.Byte(), 0, 13).Draw(t, "head")
		name := rapid.SliceOfN(rapid.Byte(), 0, 3*MaxServer).Draw(t, "name")
		h := hmac.New(sha256.New, derived)
		h.Write(head)
		h.Write(name)
		s := new(Scratch)
		if got := k.mac(s, message(s, head, name)); !bytes.Equal(got[:], h.Sum(nil)[:macSize]) {
			t.Fatalf("MAC %x, want %x", got, h.Sum(nil)[:macSize])
		}
	})
}

func TestVerdicts(t *testing.T) {
	const idle, life = time.Hour, 24 * time.Hour
	limited := Config{MaxIdle: idle, MaxLife: life}
	with := func(c Config, f Format) Config {
		c.Format = f
		return c
	}
	for _, f := range []Format{Signed, Hidden} {
		j := newJar(t, with(limited, f), "web", next, old)
		unlimited := newJar(t, Config{Format: f}, "web", next, old)
		other := newJar(t, Config{Format: f}, "api", next, old)
		older := newJar(t, Config{Format: f}, "web", old)
		foreign := newJar(t, Config{Format: f}, "web", Key{9})
		plain := newJar(t, Config{Format: Plain}, "web")
		crossed := newJar(t, Config{Format: map[Format]Format{Signed: Hidden, Hidden: Signed}[f]}, "web", next)
		value := made(t, j, "web1", time.Time{}, noon)
		lag := idle / 16
		tests := []struct {
			name    string
			jar     *Jar
			value   string
			now     time.Time
			want    Verdict
			refresh bool
		}{
			{"just made", j, value, noon, Valid, false},
			{"made by a node that is a minute ahead", j, value, noon.Add(-ClockSkew), Valid, false},
			{"made further ahead", j, value, noon.Add(-ClockSkew - time.Second), Future, false},
			{"made ahead, without limits", unlimited, value, noon.Add(-time.Hour), Valid, false},
			{"not yet to be refreshed", j, value, noon.Add(lag - time.Second), Valid, false},
			{"to be refreshed", j, value, noon.Add(lag), Valid, true},
			{"idle for as long as may be, on a node that is ahead", j, value, noon.Add(idle + ClockSkew), Valid, true},
			{"idle, and was last used just before a refresh", j, value, noon.Add(idle + ClockSkew + lag), Valid, true},
			{"idle", j, value, noon.Add(idle + ClockSkew + lag + time.Second), Idle, false},
			{"idle, without limits", unlimited, value, noon.Add(1000 * idle), Valid, false},
			{"of as long a life as may be", j, made(t, j, "web1", noon.Add(-life-ClockSkew), noon), noon, Valid, false},
			{"old", j, made(t, j, "web1", noon.Add(-life-ClockSkew-time.Second), noon), noon, Old, false},
			{"begun in the future", j, made(t, j, "web1", noon.Add(2*ClockSkew), noon), noon, Future, false},
			{"of an older key", j, made(t, older, "web1", time.Time{}, noon), noon, Valid, true},
			{"of the key that comes next", older, value, noon, Forged, false},
			{"of another key", j, made(t, foreign, "web1", time.Time{}, noon), noon, Forged, false},
			{"of another pool", j, made(t, other, "web1", time.Time{}, noon), noon, Forged, false},
			{"of the other format", j, made(t, crossed, "web1", time.Time{}, noon), noon, Valid, true},
			{"plain", j, made(t, plain, "web1", time.Time{}, noon), noon, Malformed, false},
			{"empty", j, "", noon, Malformed, false},
			{"version alone", j, value[:1], noon, Malformed, false},
			{"unknown version", j, "3" + value[1:], noon, Malformed, false},
			{"cut short", j, value[:20], noon, Malformed, false},
			{"in quotes", j, `"` + value + `"`, noon, Malformed, false},
			{"a line break that base64 would skip", j, value[:15] + "\n" + value[16:], noon, Malformed, false},
			{"oversized", j, value + strings.Repeat("a", maxValue), noon, Oversized, false},
		}
		for _, tt := range tests {
			t.Run(string(f)+"/"+tt.name, func(t *testing.T) {
				d := parse(tt.jar, tt.value, tt.now)
				if d.Verdict != tt.want || d.Refresh != tt.refresh {
					t.Errorf("%v, refresh %v; want %v, %v", d.Verdict, d.Refresh, tt.want, tt.refresh)
				}
				if ok := string(d.Server) == "web1"; ok != (tt.want == Valid) {
					t.Errorf("server %q", d.Server)
				}
				if d.Stays("web1") != (tt.want == Valid && !tt.refresh) {
					t.Error("Stays disagrees")
				}
			})
		}
	}
	j := newJar(t, limited, "web", old)
	if d := j.Parse(sent("OTHER", "web1"), noon, new(Scratch)); d.Verdict != Absent {
		t.Errorf("without the cookie: %v", d.Verdict)
	}
}

func TestPlainVerdicts(t *testing.T) {
	j := newJar(t, Config{Format: Plain}, "web")
	for value, want := range map[string]Verdict{
		"web1": Valid, "a%20b": Valid, "": Malformed, "a%2": Malformed, "a%zz": Malformed, "a%62": Malformed, "a%c3": Malformed, "a b": Malformed, `"web1"`: Malformed,
		strings.Repeat("a", MaxServer): Valid, strings.Repeat("a", MaxServer+1): Malformed, strings.Repeat("%20", MaxServer+1): Malformed, strings.Repeat("a", maxValue+1): Oversized,
	} {
		if d := parse(j, value, noon); d.Verdict != want {
			t.Errorf("%q: %v, want %v", value, d.Verdict, want)
		}
	}
}

// Changing anything of a genuine value makes it worthless.
func TestNoOtherValueIsValid(t *testing.T) {
	for _, f := range []Format{Signed, Hidden} {
		j := newJar(t, Config{Format: f}, "web", next, old)
		value := made(t, j, "web1", time.Time{}, noon)
		for i := range len(value) {
			for c := range 256 {
				if byte(c) == value[i] {
					continue
				}
				if d := parse(j, value[:i]+string([]byte{byte(c)})+value[i+1:], noon); d.Verdict == Valid {
					t.Fatalf("%s: byte %d as %#x is taken too", f, i, byte(c))
				}
			}
			if d := parse(j, value[:i], noon); d.Verdict == Valid {
				t.Fatalf("%s: the first %d bytes are taken too", f, i)
			}
		}
		for _, more := range []string{"a", "A", "=", "\n", "AAAA"} {
			if d := parse(j, value+more, noon); d.Verdict == Valid {
				t.Errorf("%s: %q behind it is taken too", f, more)
			}
		}
	}
}

func TestSessionKeepsItsBeginning(t *testing.T) {
	j := newJar(t, Config{MaxIdle: time.Hour, MaxLife: 24 * time.Hour}, "web", old)
	now, value := noon, made(t, j, "web1", time.Time{}, noon)
	for range 50 {
		now = now.Add(30 * time.Minute)
		d := parse(j, value, now)
		if now.Sub(noon) > 24*time.Hour+ClockSkew {
			if d.Verdict != Old {
				t.Fatalf("after %v: %v, want %v", now.Sub(noon), d.Verdict, Old)
			}
			return
		}
		if d.Verdict != Valid || !d.First.Equal(noon) || !d.Refresh {
			t.Fatalf("after %v: %+v", now.Sub(noon), d)
		}
		value = made(t, j, "web1", d.First, now)
	}
	t.Error("the session never ended")
}

func TestHiddenTellsNothing(t *testing.T) {
	j := newJar(t, Config{Format: Hidden}, "web", old)
	a, b, c := made(t, j, "web1", noon, noon), made(t, j, "web1", noon, noon), made(t, j, "web1000000", noon, noon)
	if a == b {
		t.Error("the same content makes the same value")
	}
	if len(a) != len(c) {
		t.Errorf("the length shows the name's: %d and %d", len(a), len(c))
	}
}

func TestAppend(t *testing.T) {
	j := newJar(t, Config{Format: Plain, Name: "__Secure-S", Secure: true, HTTPOnly: true, SameSite: None, Domain: "example.com", Path: "/app"}, "web")
	got, err := j.Append([]byte("x"), new(Scratch), "web1", time.Time{}, noon)
	if want := "x__Secure-S=web1; Path=/app; Domain=example.com; Secure; HttpOnly; SameSite=None"; string(got) != want || err != nil {
		t.Errorf("Append = %q, %v; want %q", got, err, want)
	}
	got, err = newJar(t, Config{Format: Plain}, "web").Append(nil, new(Scratch), "web1", time.Time{}, noon)
	if want := "SERVERID=web1; Path=/"; string(got) != want || err != nil {
		t.Errorf("Append = %q, %v; want %q", got, err, want)
	}
	for _, server := range []string{"", strings.Repeat("a", MaxServer+1)} {
		if got, err := j.Append([]byte("x"), new(Scratch), server, noon, noon); !errors.Is(err, ErrServer) || string(got) != "x" {
			t.Errorf("Append of %q = %q, %v", server, got, err)
		}
	}
	// Dates that 36 bits cannot hold are the nearest that they can.
	signed := newJar(t, Config{}, "web", old)
	if d := parse(signed, made(t, signed, "a", time.Unix(-1, 0), time.Unix(1<<40, 0)), noon); d.First.Unix() != 0 || d.Last.Unix() != maxDate {
		t.Errorf("dates %v and %v", d.First, d.Last)
	}
}

func TestAppendWithout(t *testing.T) {
	j := newJar(t, Config{Format: Plain, Name: "S"}, "web")
	tests := []struct {
		name, in, want string
		removed        bool
	}{
		{"alone", "S=a", "", true},
		{"first", "S=a; b=c", "b=c", true},
		{"last", "b=c; S=a", "b=c", true},
		{"between", "b=c; S=a; d=e", "b=c; d=e", true},
		{"twice", "S=a; b=c; S=d", "b=c", true},
		{"without spaces", "b=c;S=a;d=e", "b=c; d=e", true},
		{"with more spaces", " b=c ;\tS =a; ; d=e", "b=c; d=e", true},
		{"not there, as it stands", " b=c;d=e;", " b=c;d=e;", false},
		{"another case", "s=a", "s=a", false},
		{"longer name", "SS=a; xS=b", "SS=a; xS=b", false},
		{"a value of the name", "b=S=a", "b=S=a", false},
		{"without =", "S; b=c", "S; b=c", false},
		{"quoted value stays", `S=a; b="c=d"`, `b="c=d"`, true},
		{"empty", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, removed := j.AppendWithout([]byte("x"), []byte(tt.in))
			if string(got) != "x"+tt.want || removed != tt.removed {
				t.Errorf("AppendWithout = %q, %v; want %q, %v", got, removed, "x"+tt.want, tt.removed)
			}
		})
	}
}

func TestSets(t *testing.T) {
	j := newJar(t, Config{Format: Plain, Name: "S", Preserve: true}, "web")
	for value, want := range map[string]bool{"S=a; Path=/": true, "S=": true, " S = a": true, "s=a": false, "a=b; S=c": false, "S; Path=/": false, "": false, "SS=a": false} {
		if got := j.Sets([]byte(value)); got != want {
			t.Errorf("Sets(%q) = %v, want %v", value, got, want)
		}
	}
	if !j.Preserves() {
		t.Error("the jar does not preserve")
	}
}

func TestConfigRefused(t *testing.T) {
	tests := []struct {
		name string
		c    Config
		want []string // fields
	}{
		{"everything at once", Config{Name: "a b", Format: "x", MaxIdle: -1, MaxLife: time.Millisecond, SameSite: "x", Domain: "a b", Path: "a"}, []string{"name", "format", "max_idle", "max_life", "same_site", "domain", "path"}},
		{"no name", Config{}, []string{"name"}},
		{"long name", Config{Name: strings.Repeat("a", 65)}, []string{"name"}},
		{"limits of a plain cookie", Config{Name: "a", Format: Plain, MaxIdle: time.Hour, MaxLife: time.Hour}, []string{"max_idle", "max_life"}},
		{"none without secure", Config{Name: "a", SameSite: None}, []string{"same_site"}},
		{"an attribute let in by the path", Config{Name: "a", Path: "/; Domain=x"}, []string{"path"}},
		{"an attribute let in by the domain", Config{Name: "a", Domain: "x; Secure"}, []string{"domain"}},
		{"leading dot", Config{Name: "a", Domain: ".x"}, []string{"domain"}},
		{"host prefix", Config{Name: "__host-a", Domain: "x", Path: "/a"}, []string{"secure", "domain", "path"}},
		{"secure prefix", Config{Name: "__Secure-a"}, []string{"secure"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.c.Validate()
			if err == nil {
				t.Fatal("Validate took it")
			}
			var got []string
			for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
				var c *policy.Fault
				if !errors.As(e, &c) {
					t.Fatalf("%v is a %T", e, e)
				}
				got = append(got, c.Field)
			}
			if strings.Join(got, " ") != strings.Join(tt.want, " ") {
				t.Errorf("faults in %v, want %v: %v", got, tt.want, err)
			}
			if _, err := New(tt.c, "web", []Key{old}, counting()); err == nil {
				t.Error("New took it")
			}
		})
	}
}

func TestConfigTaken(t *testing.T) {
	for _, c := range []Config{
		{Name: "a"},
		{Name: "__Host-a", Secure: true, Path: "/"},
		{Name: "a", Format: Hidden, MaxIdle: time.Second, MaxLife: time.Second, SameSite: None, Secure: true, Domain: "a.b", Path: "/a b"},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	c := Config{Name: "a"}
	hidden := Config{Name: "a", Format: Hidden}
	for name, make := range map[string]func() (*Jar, error){
		"no key":                      func() (*Jar, error) { return New(c, "web", nil, counting()) },
		"nine keys":                   func() (*Jar, error) { return New(c, "web", make([]Key, 9), counting()) },
		"no nonces":                   func() (*Jar, error) { return New(hidden, "web", []Key{old}, nil) },
		"faults of the configuration": func() (*Jar, error) { return New(Config{}, "web", []Key{old}, nil) },
	} {
		if j, err := make(); err == nil || j != nil {
			t.Errorf("%s: New took it", name)
		}
	}
	if _, err := New(c, "web", []Key{old}, nil); err != nil {
		t.Errorf("signed without nonces: %v", err)
	}
}
