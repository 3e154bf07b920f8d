package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pharos-lb/pharos/cluster/registry"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func hash(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

func ptr[T any](v T) *T { return &v }

// config is a valid configuration with one VIP.
func config(name string) registry.Config {
	return registry.Config{VIPs: []registry.VIP{{Name: name, Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}}}.WithDefaults()
}

// started is a state with member n1, a token t1 that expires in an hour, and a
// configuration of version 1.
func started(t testing.TB) State {
	t.Helper()
	s := New()
	for _, c := range []Command{
		{At: noon, PutMember: &PutMember{Name: "n1", Address: "10.0.0.11:7443"}},
		{At: noon, CreateToken: &CreateToken{Token: Token{ID: "t1", Hash: hash("secret"), Expires: noon.Add(time.Hour)}}},
		{At: noon, ApplyConfig: &ApplyConfig{Config: config("web")}},
	} {
		var r Result
		if s, r = s.Apply(c); r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	return s
}

func TestApply(t *testing.T) {
	for _, test := range []struct {
		name    string
		command Command
		err     error
		detail  string // in the error's text
		check   func(State) bool
		version uint64 // 1 if 0
	}{
		{
			name:    "a new configuration takes the next version",
			command: Command{ApplyConfig: &ApplyConfig{Config: config("other")}},
			check:   func(s State) bool { return s.Snapshot.Config.VIPs[0].Name == "other" },
			version: 2,
		},
		{
			name:    "an equal configuration keeps the version",
			command: Command{ApplyConfig: &ApplyConfig{Config: config("web")}},
		},
		{
			name:    "a change made from the present version is taken",
			command: Command{ApplyConfig: &ApplyConfig{Config: config("other"), Base: ptr(uint64(1))}},
			version: 2,
		},
		{
			name:    "a change made from an older version is a conflict",
			command: Command{ApplyConfig: &ApplyConfig{Config: config("other"), Base: ptr(uint64(0))}},
			err:     ErrConflict, detail: "for version 0, the present one is 1",
		},
		{
			name:    "whether a configuration is valid is not judged again, since nodes could differ about it",
			command: Command{ApplyConfig: &ApplyConfig{Config: config("NOT A NAME")}},
			check:   func(s State) bool { return s.Snapshot.Config.VIPs[0].Name == "NOT A NAME" },
			version: 2,
		},
		{
			name:    "a token admits one node",
			command: Command{UseToken: &UseToken{ID: "t1", Hash: hash("secret"), Node: "n2"}},
			check:   func(s State) bool { return s.Tokens["t1"].UsedBy == "n2" },
		},
		{
			name:    "a token that does not exist",
			command: Command{UseToken: &UseToken{ID: "t9", Hash: hash("secret"), Node: "n2"}},
			err:     ErrTokenUnknown,
		},
		{
			name:    "a wrong secret looks like an unknown token",
			command: Command{UseToken: &UseToken{ID: "t1", Hash: hash("guess"), Node: "n2"}},
			err:     ErrTokenUnknown,
		},
		{
			name:    "no secret at all",
			command: Command{UseToken: &UseToken{ID: "t1", Node: "n2"}},
			err:     ErrTokenUnknown,
		},
		{
			name:    "a token counts as expired from its very moment",
			command: Command{At: noon.Add(time.Hour), UseToken: &UseToken{ID: "t1", Hash: hash("secret"), Node: "n2"}},
			err:     ErrTokenExpired,
		},
		{
			name:    "a token is good until just before",
			command: Command{At: noon.Add(time.Hour - 1), UseToken: &UseToken{ID: "t1", Hash: hash("secret"), Node: "n2"}},
		},
		{
			name:    "the leader's zone does not matter",
			command: Command{At: noon.Add(time.Hour).In(time.FixedZone("east", 9*3600)), UseToken: &UseToken{ID: "t1", Hash: hash("secret"), Node: "n2"}},
			err:     ErrTokenExpired,
		},
		{
			name:    "a token does not admit a second node of a member's name",
			command: Command{UseToken: &UseToken{ID: "t1", Hash: hash("secret"), Node: "n1"}},
			err:     ErrNameTaken,
			check:   func(s State) bool { return s.Tokens["t1"].UsedBy == "" },
		},
		{
			name:    "a token does not admit a node without a proper name",
			command: Command{UseToken: &UseToken{ID: "t1", Hash: hash("secret"), Node: "../n2"}},
			err:     ErrInvalid, detail: "node name",
		},
		{
			name:    "a token's id is used once",
			command: Command{CreateToken: &CreateToken{Token: Token{ID: "t1", Hash: hash("other"), Expires: noon.Add(time.Hour)}}},
			err:     ErrInvalid, detail: "exists already",
		},
		{
			name:    "a token with an empty hash would admit anyone",
			command: Command{CreateToken: &CreateToken{Token: Token{ID: "t2", Expires: noon.Add(time.Hour)}}},
			err:     ErrInvalid, detail: "0 bytes, not 32",
		},
		{
			name:    "a token that has expired when it is created",
			command: Command{CreateToken: &CreateToken{Token: Token{ID: "t2", Hash: hash("s"), Expires: noon}}},
			err:     ErrInvalid, detail: "expires",
		},
		{
			name:    "a token that was used when it is created",
			command: Command{CreateToken: &CreateToken{Token: Token{ID: "t2", Hash: hash("s"), Expires: noon.Add(1), UsedBy: "n2"}}},
			err:     ErrInvalid, detail: "is used",
		},
		{
			name:    "a token without an id",
			command: Command{CreateToken: &CreateToken{Token: Token{Hash: hash("s"), Expires: noon.Add(1)}}},
			err:     ErrInvalid, detail: "without an id",
		},
		{
			name:    "a day after it expired a token is still known",
			command: Command{At: noon.Add(25 * time.Hour), CreateToken: &CreateToken{Token: Token{ID: "t2", Hash: hash("s"), Expires: noon.Add(26 * time.Hour)}}},
			check:   func(s State) bool { return len(s.Tokens) == 2 },
		},
		{
			name:    "after that day it is dropped",
			command: Command{At: noon.Add(25*time.Hour + 1), CreateToken: &CreateToken{Token: Token{ID: "t2", Hash: hash("s"), Expires: noon.Add(26 * time.Hour)}}},
			check:   func(s State) bool { _, kept := s.Tokens["t1"]; return len(s.Tokens) == 1 && !kept },
		},
		{
			name:    "a member may move",
			command: Command{At: noon.Add(time.Minute), PutMember: &PutMember{Name: "n1", Address: "[2001:db8::11]:7443"}},
			check: func(s State) bool {
				return s.Members["n1"] == Member{Name: "n1", Address: "[2001:db8::11]:7443", Joined: noon}
			},
		},
		{
			name:    "a member without a port",
			command: Command{PutMember: &PutMember{Name: "n2", Address: "10.0.0.12"}},
			err:     ErrInvalid, detail: "must be host:port",
		},
		{
			name:    "a member without a name",
			command: Command{PutMember: &PutMember{Address: "10.0.0.12:7443"}},
			err:     ErrInvalid, detail: "node name is empty",
		},
		{
			name:    "a member is removed",
			command: Command{RemoveMember: &RemoveMember{Name: "n1"}},
			check:   func(s State) bool { return len(s.Members) == 0 },
		},
		{
			name:    "a member that is none is not removed",
			command: Command{RemoveMember: &RemoveMember{Name: "n9"}},
			err:     ErrMemberUnknown,
		},
		{name: "no kind", err: ErrUnknownCommand},
		{
			name:    "two kinds",
			command: Command{RemoveMember: &RemoveMember{Name: "n1"}, ApplyConfig: &ApplyConfig{}},
			err:     ErrUnknownCommand,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := started(t)
			if test.command.At.IsZero() {
				test.command.At = noon.Add(time.Minute)
			}
			after, r := before.Apply(test.command)
			err := r.Err()
			if !errors.Is(err, test.err) || (test.err == nil) != (err == nil) {
				t.Fatalf("Apply gave %v, not %v", err, test.err)
			}
			if err != nil && !strings.Contains(err.Error(), test.detail) {
				t.Errorf("the refusal %q does not say %q", err, test.detail)
			}
			if err != nil && !bytes.Equal(snapshotOf(t, before), snapshotOf(t, after)) {
				t.Errorf("a refused command changed the state:\n%s\n%s", snapshotOf(t, before), snapshotOf(t, after))
			}
			if test.version == 0 {
				test.version = 1
			}
			if r.Version != test.version || after.Snapshot.Version != test.version {
				t.Errorf("result of version %d, state of version %d, not %d", r.Version, after.Snapshot.Version, test.version)
			}
			if test.check != nil && !test.check(after) {
				t.Errorf("unexpected state %+v", after)
			}
			if d := cmp.Diff(snapshotOf(t, started(t)), snapshotOf(t, before)); d != "" {
				t.Errorf("Apply changed the state that it was called on:\n%s", d)
			}
		})
	}
}

func snapshotOf(t testing.TB, s State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := EncodeSnapshot(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestASecondUseOfATokenIsRefusedEvenForTheSameNode(t *testing.T) {
	use := Command{At: noon, UseToken: &UseToken{ID: "t1", Hash: hash("secret"), Node: "n2"}}
	s, r := started(t).Apply(use)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if _, r = s.Apply(use); !errors.Is(r.Err(), ErrTokenUsed) {
		t.Fatalf("the second use gave %v, not %v", r.Err(), ErrTokenUsed)
	}
}

func TestApplyToTheZeroState(t *testing.T) {
	var s State
	s, r := s.Apply(Command{At: noon, PutMember: &PutMember{Name: "n1", Address: "a:1"}})
	if r.Err() != nil || s.Members["n1"].Name != "n1" {
		t.Fatalf("got %+v, %v", s, r.Err())
	}
}

func TestAResultOfANewerVersionIsStillAnError(t *testing.T) {
	if err := (Result{Error: "the moon is full"}).Err(); err == nil || !strings.Contains(err.Error(), "the moon is full") {
		t.Fatalf("got %v", err)
	}
}
