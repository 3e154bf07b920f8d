package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// guard stands between raft and the bolt file. Bolt keeps no checksum of what
// it stores, and raft panics where a disk fails it, which would end the serving
// of traffic as well: the guard adds the one and prevents the other.
type guard struct {
	logs   raft.LogStore
	stable raft.StableStore
	file   string
	logger *slog.Logger
	// fail is told what makes further work with this log impossible. It must
	// not wait for raft.
	fail   func(error)
	closed chan struct{} // no more retries: the store is shutting down
	armed  atomic.Bool   // raft runs: its goroutines are ours to end

	mu    sync.Mutex
	fault error // of the last write; nil when it went well
}

const retryEvery = 250 * time.Millisecond

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errChecksum = errors.New("checksum mismatch")
)

// seal is the checksum of an entry, over all that matters of it.
func seal(l *raft.Log) []byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[0:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
	return binary.BigEndian.AppendUint32(nil, sum)
}

// lastFault is the error of the last write, nil when it went well.
func (g *guard) lastFault() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fault
}

// wrote remembers how a write went, and logs when that changes.
func (g *guard) wrote(err error) error {
	g.mu.Lock()
	before := g.fault
	if err != nil {
		err = &StorageError{File: g.file, Err: err}
	}
	g.fault = err
	g.mu.Unlock()
	switch {
	case err != nil && before == nil:
		g.logger.Error("cannot write the raft log", "file", g.file, "error", errors.Unwrap(err))
	case err == nil && before != nil:
		g.logger.Info("the raft log can be written again", "file", g.file)
	}
	return err
}

// broken ends the calling raft goroutine, since raft would panic: the entry is
// one that raft cannot do without. The deferred calls of the goroutine run.
func (g *guard) broken(err error) {
	if g.armed.Load() {
		g.fail(err)
		runtime.Goexit()
	}
}

func (g *guard) FirstIndex() (uint64, error) { return g.logs.FirstIndex() }
func (g *guard) LastIndex() (uint64, error)  { return g.logs.LastIndex() }

// read fetches an entry and checks its seal.
func (g *guard) read(index uint64, l *raft.Log) error {
	if err := g.logs.GetLog(index, l); err != nil {
		return err
	}
	if l.Index != index || string(seal(l)) != string(l.Extensions) {
		return fmt.Errorf("entry %d: %w", index, errChecksum)
	}
	l.Extensions = nil
	return nil
}

// GetLog never returns an entry that is not what was stored.
func (g *guard) GetLog(index uint64, l *raft.Log) error {
	err := g.read(index, l)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		err = corrupt(g.file, err.Error())
		g.broken(err)
	}
	return err
}

func (g *guard) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

func (g *guard) StoreLogs(logs []*raft.Log) error {
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l
		c.Extensions = seal(l)
		sealed[i] = &c
	}
	return g.wrote(g.logs.StoreLogs(sealed))
}

func (g *guard) DeleteRange(first, last uint64) error {
	return g.wrote(g.logs.DeleteRange(first, last))
}

// Set keeps a term or a vote. Raft panics when it cannot keep its term, so on a
// disk that is full this waits for space: the node takes no part in elections meanwhile, which is
// what safety asks for, and goes on serving.
func (g *guard) Set(key, value []byte) error {
	sealed := binary.BigEndian.AppendUint32(append([]byte(nil), value...), sealValue(key, value))
	for {
		if g.wrote(g.stable.Set(key, sealed)) == nil {
			return nil
		}
		select {
		case <-time.After(retryEvery):
		case <-g.closed:
			runtime.Goexit()
		}
	}
}

func sealValue(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// readValue fetches a value and checks its seal.
func (g *guard) readValue(key []byte) ([]byte, error) {
	sealed, err := g.stable.Get(key)
	if err != nil {
		return nil, err // raft knows "not found" by its text
	}
	n := len(sealed) - 4
	if n < 0 || binary.BigEndian.Uint32(sealed[n:]) != sealValue(key, sealed[:n]) {
		return nil, fmt.Errorf("%s: %w", key, errChecksum)
	}
	return sealed[:n], nil
}

func (g *guard) Get(key []byte) ([]byte, error) { return g.readValue(key) }

func (g *guard) SetUint64(key []byte, value uint64) error {
	return g.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

func (g *guard) GetUint64(key []byte) (uint64, error) {
	value, err := g.readValue(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("%s: %d bytes, want 8", key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
