package backend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Answer is what every path but /healthz and /bytes says, as JSON.
type Answer struct {
	Backend string `json:"backend"` // who answers
	Peer    string `json:"peer"`    // who asked: the node that carried the request, address:port
	Path    string `json:"path"`
	// Forwarded is the request's X-Forwarded-For: the client, by the node's word.
	Forwarded string `json:"forwarded,omitempty"`
}

const (
	maxSlow  = 10 * time.Minute
	maxBytes = 1 << 30

	// streamInterval is the time between two pieces of a streamed answer.
	streamInterval = 100 * time.Millisecond
)

// handler serves
//
//	/healthz               200
//	/slow?ms=N             the answer after N milliseconds
//	/slow?ms=N&stream=1    the head at once, a byte each 100 ms, and then the answer
//	/bytes?n=N             N bytes
//	anything else          the answer
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/slow", s.slow)
	mux.HandleFunc("/bytes", s.bytes)
	mux.HandleFunc("/", s.answer)
	return mux
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	body, err := json.Marshal(Answer{
		Backend: s.config.Name, Peer: r.RemoteAddr, Path: r.URL.Path, Forwarded: r.Header.Get("X-Forwarded-For"),
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n'))
}

func (s *Server) slow(w http.ResponseWriter, r *http.Request) {
	ms, err := number(r, "ms", int64(maxSlow/time.Millisecond))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	done := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer done.Stop()
	var tick <-chan time.Time
	if r.URL.Query().Get("stream") != "" {
		ticker := time.NewTicker(streamInterval)
		defer ticker.Stop()
		tick = ticker.C
		w.Header().Set("Content-Type", "application/json")
		http.NewResponseController(w).Flush()
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-tick:
			// White space before a JSON value means nothing.
			w.Write([]byte(" "))
			http.NewResponseController(w).Flush()
		case <-done.C:
			s.answer(w, r)
			return
		}
	}
}

func (s *Server) bytes(w http.ResponseWriter, r *http.Request) {
	n, err := number(r, "n", maxBytes)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	block := make([]byte, min(n, 64<<10))
	for i := range block {
		block[i] = byte('a' + i%26)
	}
	for n > 0 {
		wrote, err := w.Write(block[:min(n, int64(len(block)))])
		if err != nil {
			return
		}
		n -= int64(wrote)
	}
}

// number reads a query parameter from 0 to limit.
func number(r *http.Request, name string, limit int64) (int64, error) {
	text := r.URL.Query().Get(name)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > limit {
		return 0, fmt.Errorf("%s=%q: must be a number from 0 to %d", name, text, limit)
	}
	return n, nil
}
