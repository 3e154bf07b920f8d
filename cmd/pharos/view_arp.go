package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pharos-lb/pharos/cluster/api/pharosv1"
)

// arpView is whether a node answers for a VIP in mode arp, and why.
type arpView struct {
	Held        bool             `json:"held"`
	Holder      string           `json:"holder,omitempty"`
	Code        string           `json:"code"`
	Message     string           `json:"message"`
	Since       *time.Time       `json:"since,omitempty"`
	Epoch       uint64           `json:"epoch,omitempty"`
	Conflicts   uint64           `json:"conflicts"`
	Transitions uint64           `json:"transitions"`
	Addresses   []arpAddressView `json:"addresses,omitempty"`
}

type arpAddressView struct {
	Address   string `json:"address"`
	Interface string `json:"interface,omitempty"`
	Carrier   bool   `json:"carrier"`
	Trouble   string `json:"trouble,omitempty"`
}

func arpOf(a *pharosv1.ARPStatus) *arpView {
	if a == nil {
		return nil
	}
	view := &arpView{
		Held: a.GetHeld(), Holder: a.GetHolder(), Code: a.GetCode(), Message: a.GetMessage(), Since: stamp(a.GetSince()),
		Epoch: a.GetEpoch(), Conflicts: a.GetConflicts(), Transitions: a.GetTransitions(),
	}
	for _, at := range a.GetAddresses() {
		view.Addresses = append(view.Addresses, arpAddressView{
			Address: at.GetAddress(), Interface: at.GetInterface(), Carrier: at.GetCarrier(), Trouble: at.GetTrouble(),
		})
	}
	return view
}

// explainARP says of one node whether it holds a VIP, and why.
func explainARP(w io.Writer, node string, v vipView, now time.Time) {
	a := v.ARP
	if a.Held {
		fmt.Fprintf(w, "%s: holds %s%s\n", node, list(v.Addresses), since(a.Since))
	} else {
		fmt.Fprintf(w, "%s: does not hold it%s\n", node, since(a.Since))
	}
	fmt.Fprintf(w, "    %s%s: %s", a.Code, age(a.Since, now), a.Message)
	if a.Epoch > 0 {
		fmt.Fprintf(w, " (epoch %d)", a.Epoch)
	}
	fmt.Fprintln(w)
	for _, r := range v.Reasons {
		if v.Announcing {
			fmt.Fprintf(w, "    in spite of %s%s: %s\n", r.Code, age(r.Since, now), r.Message)
		} else {
			fmt.Fprintf(w, "    %s%s: %s\n", r.Code, age(r.Since, now), r.Message)
		}
	}
	if on := a.where(); on != "" {
		fmt.Fprintf(w, "    on %s; came to hold it %d times, %d conflicts\n", on, a.Transitions, a.Conflicts)
	}
}

// where names the interfaces.
func (a arpView) where() string {
	var names []string
	for _, at := range a.Addresses {
		if at.Interface != "" && !slices.Contains(names, at.Interface) {
			names = append(names, at.Interface)
		}
	}
	return strings.Join(names, ", ")
}

// arpTotal says which nodes hold a VIP; false: it is in no such mode anywhere.
func arpTotal(w io.Writer, vip string, views []explanationView) bool {
	var holders []string
	is := false
	for _, v := range views {
		if v.VIP == nil || v.VIP.ARP == nil {
			continue
		}
		is = true
		if v.VIP.ARP.Held {
			holders = append(holders, v.Node)
		}
	}
	switch {
	case !is:
	case len(holders) == 0:
		fmt.Fprintf(w, "No node holds VIP %s.\n", vip)
	case len(holders) == 1:
		fmt.Fprintf(w, "%s holds VIP %s.\n", holders[0], vip)
	default:
		// Each was asked at a moment of its own; or the network is in parts.
		fmt.Fprintf(w, "%s say that they hold VIP %s: it may be on its way, or the network is in parts.\n", strings.Join(holders, " and "), vip)
	}
	return is
}
