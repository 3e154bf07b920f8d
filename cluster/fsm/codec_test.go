package fsm

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// commands has one command of each kind.
func commands() map[string]Command {
	return map[string]Command{
		"apply config":    {At: noon, By: "admin", ApplyConfig: &ApplyConfig{Config: config("web"), Base: ptr(uint64(0)), Seed: []byte{1, 2}}},
		"create token":    {At: noon, CreateToken: &CreateToken{Token: Token{ID: "t1", Hash: hash("secret"), Expires: noon.Add(time.Hour)}}},
		"use token":       {At: noon, UseToken: &UseToken{ID: "t1", Hash: hash("secret"), Node: "n2"}},
		"put member":      {At: noon, PutMember: &PutMember{Name: "n1", Address: "10.0.0.11:7443"}},
		"operate servers": {At: noon, By: "admin", OperateServers: &OperateServers{Servers: []string{"p/a"}, State: ptr(ServerReady), Weight: ptr(0)}},
		"reset weight":    {At: noon, OperateServers: &OperateServers{Servers: []string{"p/a"}, ResetWeight: true}},
		"put keys":        {At: noon, PutKeys: &PutKeys{Kind: TicketKeys, Base: 3, Keys: []Key{{ID: "k", Sealed: "sealed:v1:QQ==", Makes: true, Created: noon, Retired: noon}}}},
		"remove member":   {At: noon, RemoveMember: &RemoveMember{Name: "n1"}},
	}
}

func TestCommandsSurviveTheLog(t *testing.T) {
	for name, c := range commands() {
		t.Run(name, func(t *testing.T) {
			data, err := EncodeCommand(c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeCommand(data)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c, got, cmpopts.EquateComparable(noon, config("web").VIPs[0].Addresses[0])); d != "" {
				t.Errorf("the command differs (-want +got):\n%s", d)
			}
		})
	}
}

func TestBadLogEntries(t *testing.T) {
	for _, test := range []struct {
		name, data string
		want       error
	}{
		{"nothing", "", ErrCorrupt},
		{"the format alone", "\x01", ErrCorrupt},
		{"a later format", "\x02{}", ErrUnknownCommand},
		{"cut short", "\x01{\"at\":", ErrCorrupt},
		{"two values", "\x01{} {}", ErrCorrupt},
		{"no kind", "\x01{\"at\":\"2026-11-22T12:00:00Z\"}", ErrUnknownCommand},
		{"two kinds", "\x01{\"put_member\":{\"name\":\"a\"},\"remove_member\":{\"name\":\"a\"}}", ErrUnknownCommand},
		{"a kind of a newer version", "\x01{\"rotate_ca\":{}}", ErrUnknownCommand},
		{"a field of a newer version", "\x01{\"put_member\":{\"name\":\"a\",\"zone\":\"b\"}}", ErrUnknownCommand},
		{"a nested field of a newer version", "\x01{\"apply_config\":{\"config\":{\"pools\":[{\"health_check\":{\"grpc\":true}}]}}}", ErrUnknownCommand},
		{"another type", "\x01{\"put_member\":7}", ErrUnknownCommand},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := DecodeCommand([]byte(test.data))
			if !errors.Is(err, test.want) || c.count() != 0 {
				t.Errorf("got %+v, %v, not %v", c, err, test.want)
			}
		})
	}
}

func TestACommandOfNoKindIsNotWritten(t *testing.T) {
	for _, c := range []Command{{}, {PutMember: &PutMember{}, RemoveMember: &RemoveMember{}}} {
		if data, err := EncodeCommand(c); !errors.Is(err, ErrUnknownCommand) {
			t.Errorf("%+v was written as %q, %v", c, data, err)
		}
	}
}

func TestACommandThatNoNodeWouldTakeIsNotWritten(t *testing.T) {
	c := config("web")
	c.VIPs[0].Communities = []string{strings.Repeat("<", MaxCommand/6+1)} // "<" takes six bytes
	if data, err := EncodeCommand(Command{At: noon, ApplyConfig: &ApplyConfig{Config: c}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %d bytes, %v, not %v", len(data), err, ErrTooLarge)
	}
}

func TestResultsSurviveForwarding(t *testing.T) {
	for _, sentinel := range append(sentinels(), nil) {
		want := Result{Version: 7, Revision: 9}
		if sentinel != nil {
			want = Result{Version: 7, Revision: 9, Error: sentinel.Error(), Detail: "why"}
		}
		data, err := EncodeResult(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeResult(data)
		if err != nil || got != want {
			t.Fatalf("got %+v, %v, not %+v", got, err, want)
		}
		if !errors.Is(got.Err(), sentinel) {
			t.Errorf("Err gives %v, not %v", got.Err(), sentinel)
		}
	}
}

func TestTheSentinelsCanBeToldApart(t *testing.T) {
	seen := map[string]bool{}
	for _, err := range sentinels() {
		if seen[err.Error()] {
			t.Errorf("%q stands twice", err)
		}
		seen[err.Error()] = true
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range commands() {
		data, err := EncodeCommand(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("\x01{}"))
	f.Add([]byte("\x02"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeCommand(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownCommand) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		// Whatever the log may hold, applying it must not panic, and two nodes
		// that do must agree.
		before := started(t)
		one, r1 := before.Apply(c)
		other, r2 := before.Apply(c)
		if r1 != r2 || !bytes.Equal(snapshotOf(t, one), snapshotOf(t, other)) {
			t.Fatalf("two nodes differ: %+v, %+v", r1, r2)
		}
	})
}
