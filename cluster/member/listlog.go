package member

import (
	"context"
	"log"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
)

// listLog is the io.Writer behind memberlist's logger. It gives each line to
// slog, and does not let a stranger fill the log: a message from the same host comes
// once a minute.
type listLog struct {
	to  *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	told map[string]time.Time
}

func newListLogger(to *slog.Logger) *log.Logger {
	return log.New(&listLog{to: to, now: time.Now, told: map[string]time.Time{}}, "", 0)
}

const (
	repeatAfter = time.Minute
	maxTold     = 256
)

// port is what differs between two messages about one host.
var port = regexp.MustCompile(`:\d{1,5}\b`)

func (l *listLog) Write(line []byte) (int, error) {
	level, text := parseLine(string(line))
	if !l.to.Enabled(context.Background(), level) || level > slog.LevelDebug && !l.fresh(text) {
		return len(line), nil
	}
	l.to.Log(context.Background(), level, "gossip", "event", text)
	return len(line), nil
}

// parseLine takes memberlist's "[LEVEL] memberlist: text" apart. What memberlist calls an error
// is mostly another node's doing, and none of them stops this one: a warning.
func parseLine(line string) (slog.Level, string) {
	text := strings.TrimSpace(line)
	level := slog.LevelWarn
	if tag, rest, ok := strings.Cut(text, "] "); ok && strings.HasPrefix(tag, "[") {
		switch tag[1:] {
		case "DEBUG":
			level = slog.LevelDebug
		case "INFO":
			level = slog.LevelInfo
		}
		text = rest
	}
	return level, strings.TrimPrefix(text, "memberlist: ")
}

// fresh says whether a message has not been told for a minute.
func (l *listLog) fresh(text string) bool {
	key, now := port.ReplaceAllString(text, ""), l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.told[key]; ok && now.Sub(at) < repeatAfter {
		return false
	}
	if len(l.told) >= maxTold {
		clear(l.told) // rather a repeated line than memory without bounds
	}
	l.told[key] = now
	return true
}
