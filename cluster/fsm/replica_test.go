package fsm

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// genCommand makes commands of few names, so that they meet: right and wrong
// ones alike.
func genCommand(at time.Time) *rapid.Generator[Command] {
	node := rapid.SampledFrom([]string{"n1", "n2", "n3", "", "N!"})
	id := rapid.SampledFrom([]string{"t1", "t2", "t3", ""})
	secret := rapid.SampledFrom([]string{"a", "b"})
	return rapid.Custom(func(t *rapid.T) Command {
		c := Command{At: at}
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0:
			c.ApplyConfig = &ApplyConfig{Config: config(rapid.SampledFrom([]string{"web", "mail", "NOT VALID"}).Draw(t, "vip"))}
			c.ApplyConfig.Config.Pools = pools(rapid.SliceOfDistinct(rapid.SampledFrom([]string{"p/a", "p/b", "q/a"}), func(s string) string { return s }).Draw(t, "servers")...)
			c.ApplyConfig.Seed = rapid.SliceOfN(rapid.Byte(), 0, 2).Draw(t, "seed")
			if rapid.Bool().Draw(t, "conditional") {
				c.ApplyConfig.Base = ptr(rapid.Uint64Range(0, 4).Draw(t, "base"))
			}
		case 1:
			c.CreateToken = &CreateToken{Token: Token{
				ID: id.Draw(t, "id"), Hash: hash(secret.Draw(t, "secret")),
				Expires: at.Add(time.Duration(rapid.IntRange(-1, 100).Draw(t, "ttl")) * time.Minute),
			}}
		case 2:
			c.UseToken = &UseToken{ID: id.Draw(t, "id"), Hash: hash(secret.Draw(t, "secret")), Node: node.Draw(t, "node")}
		case 3:
			c.PutMember = &PutMember{Name: node.Draw(t, "node"), Address: rapid.SampledFrom([]string{"10.0.0.1:7443", "[::1]:7443", "x"}).Draw(t, "address")}
		case 5:
			c.OperateServers = &OperateServers{Servers: rapid.SliceOfN(rapid.SampledFrom([]string{"p/a", "p/b", "q/a", "q/b"}), 0, 2).Draw(t, "servers")}
			c.OperateServers.State = rapid.Ptr(rapid.SampledFrom([]ServerState{ServerReady, ServerDraining, ServerMaintenance, "lost"}), true).Draw(t, "state")
			c.OperateServers.Weight = rapid.Ptr(rapid.IntRange(-1, 257), true).Draw(t, "weight")
			c.OperateServers.ResetWeight = rapid.Bool().Draw(t, "reset")
		case 6:
			c.PutKeys = &PutKeys{Kind: rapid.SampledFrom([]KeyKind{TicketKeys, CookieKeys, "door"}).Draw(t, "kind of key"), Base: rapid.Uint64Range(0, 2).Draw(t, "base")}
			for range rapid.IntRange(0, 2).Draw(t, "keys") {
				c.PutKeys.Keys = append(c.PutKeys.Keys, Key{ID: "k", Sealed: rapid.SampledFrom([]string{"sealed:v1:QQ==", "clear"}).Draw(t, "key"), Created: at})
			}
		case 4:
			c.RemoveMember = &RemoveMember{Name: node.Draw(t, "node")}
		}
		return c
	})
}

// One node applies the commands as the leader has them in memory, one as the
// log has them, and one begins half-way, from a snapshot. They must agree after
// each command, and no state that was returned may change later.
func TestReplicasAgree(t *testing.T) {
	applied, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		leader, follower := New(), New()
		var late *State
		type kept struct {
			state State
			text  []byte
		}
		var history []kept
		at := noon.In(time.FixedZone("east", 3600))
		for i := range rapid.IntRange(1, 40).Draw(rt, "commands") {
			at = at.Add(time.Duration(rapid.IntRange(0, 120).Draw(rt, "minutes")) * time.Minute)
			c := genCommand(at).Draw(rt, fmt.Sprint("command ", i))
			var r, followers Result
			leader, r = leader.Apply(c)
			if r.Err() != nil {
				refused++
			} else {
				applied++
			}
			if data, err := EncodeCommand(c); err == nil {
				logged, err := DecodeCommand(data)
				if err != nil {
					rt.Fatal(err)
				}
				follower, followers = follower.Apply(logged)
				if r != followers {
					rt.Fatalf("the leader's result is %+v, the follower's %+v", r, followers)
				}
				if late != nil {
					s, _ := late.Apply(logged)
					late = &s
				}
			}
			want := snapshotOf(t, leader)
			if got := snapshotOf(t, follower); !bytes.Equal(want, got) {
				rt.Fatalf("the leader has\n%s\nthe follower\n%s", want, got)
			}
			if late != nil && !bytes.Equal(want, snapshotOf(t, *late)) {
				rt.Fatalf("the leader has\n%s\nthe node that began from a snapshot\n%s", want, snapshotOf(t, *late))
			}
			if late == nil && rapid.Bool().Draw(rt, "snapshot") {
				s, err := DecodeSnapshot(bytes.NewReader(want))
				if err != nil {
					rt.Fatal(err)
				}
				late = &s
			}
			history = append(history, kept{leader, want})
			spoil(c)
		}
		for i, h := range history {
			if !bytes.Equal(h.text, snapshotOf(t, h.state)) {
				rt.Fatalf("the state after command %d changed later, from\n%s\nto\n%s", i, h.text, snapshotOf(t, h.state))
			}
		}
	})
	if applied == 0 || refused == 0 {
		t.Fatalf("%d commands applied, %d refused: the test tried one side only", applied, refused)
	}
}

// spoil overwrites the memory that a command refers to: a state must not share
// it.
func spoil(c Command) {
	if c.ApplyConfig != nil {
		c.ApplyConfig.Config.VIPs[0].Name = "spoiled"
		clear(c.ApplyConfig.Seed)
		c.ApplyConfig.Config.VIPs[0].Addresses[0] = c.ApplyConfig.Config.VIPs[0].Addresses[0].Next()
	}
	if o := c.OperateServers; o != nil {
		clear(o.Servers)
		if o.Weight != nil {
			*o.Weight = 99
		}
	}
	if c.PutKeys != nil {
		clear(c.PutKeys.Keys)
	}
	if c.CreateToken != nil {
		clear(c.CreateToken.Token.Hash)
	}
}
