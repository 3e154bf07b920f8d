package accesslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

const (
	// bufferSize is how much a Buffer gathers before it hands over.
	bufferSize = 32 << 10
	// waiting is how many full buffers may wait for the disk.
	waiting = 64
)

// Log writes records to a file. Make it with [Open] or [New], and run it.
type Log struct {
	path string // empty: out does not change
	out  io.Writer
	file *os.File

	full    chan []byte
	spare   chan []byte
	dropped atomic.Uint64 // lines
}

// New returns a Log that writes to out.
func New(out io.Writer) *Log {
	return &Log{out: out, full: make(chan []byte, waiting), spare: make(chan []byte, waiting)}
}

// Open returns a Log that appends to the file at path. A file that was moved
// away or removed, as logrotate does, is opened anew within a second.
func Open(path string) (*Log, error) {
	l := New(nil)
	l.path = path
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open the access log: %w", err)
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.out = f, f
	return nil
}

// Run writes what is handed over until ctx ends, and what was by then. It is
// told of failures once until writing succeeds again.
func (l *Log) Run(ctx context.Context, failed func(error)) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	well := true
	note := func(err error) {
		if err != nil && well {
			failed(err)
		}
		well = err == nil
	}
	for {
		select {
		case b := <-l.full:
			note(l.write(b))
		case <-look.C:
			if err := l.reopen(); err != nil {
				note(err)
			}
			if n := l.dropped.Swap(0); n > 0 {
				_, err := fmt.Fprintf(l.out, `{"time":"%s","dropped_lines":%d}`+"\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), n)
				note(err)
			}
		case <-ctx.Done():
			for {
				select {
				case b := <-l.full:
					note(l.write(b))
					continue
				default:
				}
				if l.file != nil {
					_ = l.file.Close()
				}
				return
			}
		}
	}
}

func (l *Log) write(b []byte) error {
	_, err := l.out.Write(b)
	select {
	case l.spare <- b[:0]:
	default:
	}
	return err
}

// reopen opens the file anew if it is not at its path any more.
func (l *Log) reopen() error {
	if l.path == "" {
		return nil
	}
	there, err := os.Stat(l.path)
	if err == nil {
		ours, err := l.file.Stat()
		if err == nil && os.SameFile(ours, there) {
			return nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return l.open()
}

// Buffer gathers the records of one goroutine. It must not be shared.
type Buffer struct {
	log   *Log
	b     []byte
	lines uint64
}

// Buffer returns a new one.
func (l *Log) Buffer() *Buffer { return &Buffer{log: l} }

// Add adds a record, and hands over what was gathered if that is enough.
func (b *Buffer) Add(r *Record) {
	if b.b == nil {
		select {
		case b.b = <-b.log.spare:
		default:
			b.b = make([]byte, 0, bufferSize+4<<10)
		}
	}
	b.b = Append(b.b, r)
	b.lines++
	if len(b.b) >= bufferSize {
		b.Flush()
	}
}

// Empty reports whether nothing waits to be handed over.
func (b *Buffer) Empty() bool { return b.lines == 0 }

// Flush hands over what was gathered. It never waits.
func (b *Buffer) Flush() {
	if b.lines == 0 {
		return
	}
	select {
	case b.log.full <- b.b:
	default:
		b.log.dropped.Add(b.lines)
	}
	b.b, b.lines = nil, 0
}
