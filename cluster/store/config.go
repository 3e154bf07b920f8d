package store

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// Transport carries Raft between the nodes. Who implements it decides about
// encryption and authentication; the store only sees connections.
type Transport interface {
	net.Listener
	// Dial connects to another node's control address, host:port.
	Dial(address string, timeout time.Duration) (net.Conn, error)
}

// Config is what a store needs to know of its node.
type Config struct {
	// Dir is the node's state directory. The store keeps Dir/raft, and refuses
	// to share it with another process.
	Dir string
	// Name is the node's name: its identity in the Raft configuration.
	Name string
	// Address is the control address, host:port, that the other nodes reach
	// this one at. It may differ from what the Transport listens on.
	Address string
	// Transport is not needed by Bootstrap.
	Transport Transport
	Logger    *slog.Logger

	// Now is this node's clock, for Command.At. Default time.Now.
	Now func() time.Time

	// HeartbeatTimeout is how long a follower waits for its leader before it
	// asks for votes; the real wait is random between one and two times this.
	// Leaders send every tenth to fifth of it.
	//
	// Default 300ms. A silent leader of three was replaced after 0.5s in the
	// median and 0.9s at most of 21, on two cores that others kept busy; with
	// 500ms it took 1.1s and up to 2.4s, since a follower refuses its vote until
	// it misses the leader itself. Four busy loops beside three nodes that wrote all the
	// time changed no leader in a minute with either.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for votes. Default: the
	// HeartbeatTimeout, and at least that.
	ElectionTimeout time.Duration
	// LeaseTimeout is how long a leader that hears no majority stays one.
	// Default and at most: the HeartbeatTimeout.
	LeaseTimeout time.Duration
	// CommitTimeout is the longest (times two) that a follower can lag in
	// applying what is committed, when the nudge of nudge.go got lost. Default 50ms.
	CommitTimeout time.Duration
	// RPCTimeout bounds one exchange with another node, and a dial. Default 2s.
	RPCTimeout time.Duration
	// SnapshotThreshold is the number of log entries after which a snapshot is
	// taken. Default 128. An entry can hold a whole configuration, so the log
	// is kept short.
	SnapshotThreshold uint64
	// SnapshotInterval is how often (times one to two) the threshold is looked
	// at. Default 30s.
	SnapshotInterval time.Duration
	// TrailingLogs is how many entries stay in the log after a snapshot: enough
	// to reach back to the snapshot before it, should the newest be damaged.
	// Default four times the SnapshotThreshold.
	TrailingLogs uint64
	// NoNudge turns the commit nudge off, for benchmarks that compare.
	NoNudge bool
}

// retainedSnapshots is how many snapshots stay on disk: the newest, and one to
// fall back to.
const retainedSnapshots = 2

func (c Config) withDefaults() Config {
	setDefault(&c.HeartbeatTimeout, 300*time.Millisecond)
	setDefault(&c.ElectionTimeout, c.HeartbeatTimeout)
	setDefault(&c.LeaseTimeout, c.HeartbeatTimeout)
	setDefault(&c.CommitTimeout, 50*time.Millisecond)
	setDefault(&c.RPCTimeout, 2*time.Second)
	setDefault(&c.SnapshotThreshold, 128)
	setDefault(&c.SnapshotInterval, 30*time.Second)
	setDefault(&c.TrailingLogs, 4*c.SnapshotThreshold)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every fault of the configuration at once. Open and
// Bootstrap call it with the defaults filled in.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	if c.Dir == "" {
		faults = append(faults, errors.New("dir: missing"))
	}
	if c.Name == "" {
		faults = append(faults, errors.New("name: missing"))
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		faults = append(faults, fmt.Errorf("address: %q is not host:port: %w", c.Address, err))
	}
	rc := c.raftConfig()
	if rc.LocalID == "" {
		rc.LocalID = "reported above"
	}
	if err := raft.ValidateConfig(rc); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("store configuration: %w", err)
	}
	return nil
}

func (c Config) raftConfig() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.Name)
	rc.Logger = newRaftLogger(c.Logger)
	rc.HeartbeatTimeout = c.HeartbeatTimeout
	rc.ElectionTimeout = c.ElectionTimeout
	rc.LeaderLeaseTimeout = c.LeaseTimeout
	rc.CommitTimeout = c.CommitTimeout
	rc.SnapshotThreshold = c.SnapshotThreshold
	rc.SnapshotInterval = c.SnapshotInterval
	rc.TrailingLogs = c.TrailingLogs
	// An entry can be fsm.MaxCommand long, and what is sent in one exchange must
	// come through, and to disk, within the RPCTimeout.
	rc.MaxAppendEntries = 4
	// A removed leader steps down and stays in this process, which goes on
	// serving: it is for the node to decide what a removal means.
	rc.ShutdownOnRemove = false
	rc.NoLegacyTelemetry = true
	return rc
}
