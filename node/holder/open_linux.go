package holder

import (
	"log/slog"

	"github.com/pharos-lb/pharos/vip/arp"
	"github.com/pharos-lb/pharos/vip/ndp"
)

// Opener opens real links.
func Opener(logger *slog.Logger) func(LinkConfig) (Link, error) {
	return func(c LinkConfig) (Link, error) {
		if c.IPv6 {
			return ndp.Open(ndp.Config{Interface: c.Interface, WhileHeld: c.WhileHeld, Rival: c.Rival, Logger: logger})
		}
		return arp.Open(arp.Config{Interface: c.Interface, WhileHeld: c.WhileHeld, Rival: c.Rival, Logger: logger})
	}
}
