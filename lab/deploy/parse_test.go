package deploy

import (
	"fmt"
	"testing"
)

func TestParseJoinCommand(t *testing.T) {
	tests := []struct {
		name, output string
		want         JoinCommand
		err          bool
	}{
		{"alone on its line", "pharos join 10.0.1.2:7443 --token abc.def\n", JoinCommand{"10.0.1.2:7443", "abc.def"}, false},
		{"indented, among other lines", "Cluster made.\n\n    pharos join [2001:db8::1]:7443 --token abc --name NAME --address HOST\n\nbye\n", JoinCommand{"[2001:db8::1]:7443", "abc"}, false},
		{"the address last", "pharos join --token=abc --name NAME 10.0.1.2:7443", JoinCommand{"10.0.1.2:7443", "abc"}, false},
		{"no token", "pharos join 10.0.1.2:7443\n", JoinCommand{}, true},
		{"a token flag without a value", "pharos join 10.0.1.2:7443 --token\n", JoinCommand{}, true},
		{"no address", "pharos join --token abc\n", JoinCommand{}, true},
		{"nothing of it", "hello\n", JoinCommand{}, true},
		{"nothing", "", JoinCommand{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseJoinCommand(tt.output)
			if got != tt.want || (err != nil) != tt.err {
				t.Errorf("%+v, %v; want %+v, error %v", got, err, tt.want, tt.err)
			}
		})
	}
}

// The rows are what iproute2 6.1 printed.
func TestParseRoute(t *testing.T) {
	tests := []struct {
		name, output, want string
		err                bool
	}{
		{"no route", "[]", "[]", false},
		{"no output", "\n", "[]", false},
		{"three next hops, IPv4", `[{"dst":"198.51.100.1","protocol":"bgp","metric":20,"flags":[],"nexthops":[{"gateway":"10.0.1.2","dev":"e1","weight":1,"flags":[]},{"gateway":"10.0.2.2","dev":"e2","weight":1,"flags":[]},{"gateway":"10.0.3.2","dev":"e3","weight":1,"flags":[]}]}]`, "[10.0.1.2 10.0.2.2 10.0.3.2]", false},
		{"three next hops, IPv6", `[{"dst":"2001:db8:100::1","protocol":"bgp","metric":20,"flags":[],"pref":"medium","nexthops":[{"gateway":"2001:db8:1::2","dev":"e1","weight":1,"flags":[]},{"gateway":"2001:db8:2::2","dev":"e2","weight":1,"flags":[]},{"gateway":"2001:db8:3::2","dev":"e3","weight":1,"flags":[]}]}]`, "[2001:db8:1::2 2001:db8:2::2 2001:db8:3::2]", false},
		{"one of them without a link", `[{"dst":"198.51.100.1","protocol":"bgp","metric":20,"flags":[],"nexthops":[{"gateway":"10.0.1.2","dev":"e1","weight":1,"flags":[]},{"gateway":"10.0.3.2","dev":"e3","weight":1,"flags":["linkdown"]}]}]`, "[10.0.1.2]", false},
		{"one next hop", `[{"dst":"198.51.100.1","gateway":"10.0.1.2","dev":"e1","protocol":"bgp","metric":20,"flags":[]}]`, "[10.0.1.2]", false},
		{"an IPv4 route over IPv6", `[{"dst":"198.51.100.1","via":{"family":"inet6","host":"2001:db8:1::2"},"dev":"e1","flags":[]}]`, "[2001:db8:1::2]", false},
		{"a route without a gateway", `[{"dst":"198.51.100.1","dev":"lo","scope":"link","flags":[]}]`, "[]", false},
		{"two routes with one next hop", `[{"dst":"x","gateway":"10.0.1.2","flags":[]},{"dst":"x","gateway":"10.0.1.2","flags":[]}]`, "[10.0.1.2]", false},
		{"not an address", `[{"gateway":"tor1"}]`, "[]", true},
		{"not JSON", `198.51.100.1 via`, "[]", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseRoute([]byte(tt.output))
			if fmt.Sprint(got) != tt.want || (err != nil) != tt.err {
				t.Errorf("%v, %v; want %s, error %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestParseMembers(t *testing.T) {
	for _, data := range []string{
		`[{"name":"n1","alive":true,"voter":true},{"name":"n2"}]`,
		` {"members":[{"name":"n1","alive":true,"loadAverage":1},{"name":"n2","alive":false}]}`,
	} {
		got, err := ParseMembers([]byte(data))
		if err != nil || len(got) != 2 || got[0] != (Member{"n1", true}) || got[1] != (Member{"n2", false}) {
			t.Errorf("%s: %v, %v", data, got, err)
		}
	}
	if _, err := ParseMembers([]byte("NAME ALIVE")); err == nil {
		t.Error("a table was accepted")
	}
}

func FuzzParseJoinCommand(f *testing.F) {
	f.Add("pharos join 10.0.1.2:7443 --token abc.def\n")
	f.Add("pharos join --token= -- = x")
	f.Fuzz(func(t *testing.T, output string) {
		c, err := ParseJoinCommand(output)
		if err == nil && (c.Address == "" || c.Token == "") {
			t.Errorf("%+v without an error", c)
		}
	})
}

func FuzzParseRoute(f *testing.F) {
	f.Add([]byte(`[{"gateway":"10.0.1.2","nexthops":[{"via":{"host":"::1"}},{"flags":["dead"]}]}]`))
	f.Add([]byte(`[null]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		hops, err := ParseRoute(data)
		if err != nil {
			return
		}
		for i := 1; i < len(hops); i++ {
			if hops[i-1].Compare(hops[i]) >= 0 {
				t.Errorf("not sorted, or twice: %v", hops)
			}
		}
	})
}
