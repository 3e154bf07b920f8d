package sni

import "testing"

func TestWhoTakesAName(t *testing.T) {
	names := NewNames(map[string]string{
		"www.Example.com":   "exact",
		"*.example.com":     "wildcard",
		"*.dev.example.com": "longer",
		"*.example.net":     "net",
	}, "default")
	for name, want := range map[string]string{
		"www.example.com":     "exact",
		"a.example.com":       "wildcard",
		"a.b.example.com":     "wildcard",
		"example.com":         "default", // a * stands for something
		".example.com":        "default",
		"a.dev.example.com":   "longer",
		"dev.example.com":     "wildcard",
		"www.example.net":     "net",
		"wwwexample.com":      "default",
		"a.example.com.other": "default",
		"":                    "default",
	} {
		if got := names.Find(name); got != want {
			t.Errorf("%q goes to %s, want %s", name, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { names.Find("a.b.c.dev.example.com") }); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
