package epoll

import (
	"testing"

	"github.com/pharos-lb/pharos/proxy/l7/engine"
	"github.com/pharos-lb/pharos/proxy/l7/engine/enginetest"
)

func TestEngine(t *testing.T) {
	enginetest.Run(t, func() (engine.Driver, error) { return New() })
}
