package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// The JSON of a Config goes into the Raft log and its snapshots: field names
// and forms stay as they are. Durations are text, as in YAML. Reading is
// strict, whatever the decoder was told: a field that this version does not
// know came from a newer one, and to drop it would make replicas differ.

// jsonDuration is a duration that JSON has as text.
type jsonDuration time.Duration

// MarshalText writes a duration such as 2s.
func (d jsonDuration) MarshalText() ([]byte, error) {
	return []byte(formatDuration(time.Duration(d))), nil
}

// UnmarshalText reads what MarshalText wrote.
func (d *jsonDuration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("read duration %s: %w", quote(string(text)), err)
	}
	*d = jsonDuration(v)
	return nil
}

// plainNeighbor and plainHealthCheck have no methods, so that encoding/json
// takes their fields; those of the same JSON name beside them win.
type (
	plainNeighbor    Neighbor
	plainHealthCheck HealthCheck

	neighborJSON struct {
		*plainNeighbor
		HoldTime     jsonDuration `json:"hold_time"`
		ConnectRetry jsonDuration `json:"connect_retry"`
	}
	healthCheckJSON struct {
		*plainHealthCheck
		Interval jsonDuration `json:"interval"`
		Timeout  jsonDuration `json:"timeout"`
	}
)

// MarshalJSON writes a neighbor, durations as text.
func (b Neighbor) MarshalJSON() ([]byte, error) {
	return json.Marshal(neighborJSON{(*plainNeighbor)(&b), jsonDuration(b.HoldTime), jsonDuration(b.ConnectRetry)})
}

// UnmarshalJSON reads what MarshalJSON wrote. Unknown fields are an error.
func (b *Neighbor) UnmarshalJSON(data []byte) error {
	var plain plainNeighbor
	j := neighborJSON{plainNeighbor: &plain}
	if err := strictJSON(data, &j); err != nil {
		return err
	}
	*b = Neighbor(plain)
	b.HoldTime, b.ConnectRetry = time.Duration(j.HoldTime), time.Duration(j.ConnectRetry)
	return nil
}

// MarshalJSON writes a health check, durations as text.
func (h HealthCheck) MarshalJSON() ([]byte, error) {
	return json.Marshal(healthCheckJSON{(*plainHealthCheck)(&h), jsonDuration(h.Interval), jsonDuration(h.Timeout)})
}

// UnmarshalJSON reads what MarshalJSON wrote. Unknown fields are an error.
func (h *HealthCheck) UnmarshalJSON(data []byte) error {
	var plain plainHealthCheck
	j := healthCheckJSON{plainHealthCheck: &plain}
	if err := strictJSON(data, &j); err != nil {
		return err
	}
	*h = HealthCheck(plain)
	h.Interval, h.Timeout = time.Duration(j.Interval), time.Duration(j.Timeout)
	return nil
}

func strictJSON(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(to)
}
