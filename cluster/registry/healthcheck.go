package registry

import "time"

// HealthCheck is an active check of each server of a pool: a TCP connect, or a
// request by HTTP or GRPC.
type HealthCheck struct {
	HTTP string  `json:"http" format:"path"`         // the path, with its query
	GRPC *string `json:"grpc" format:"grpc_service"` // grpc.health.v1; "" asks about the server as a whole

	Method  string            `json:"method" format:"method"`  // default GET; this and the next four with HTTP only
	Host    string            `json:"host" format:"authority"` // default: the server's address
	Headers map[string]string `json:"headers" keys:"request_header" format:"header_value" max:"64"`
	// ExpectStatus are the statuses that pass, default 200. In a document a
	// range such as "200-299" stands for all that are in it.
	ExpectStatus []int  `json:"expect_status" statuses:"true" empty:"ok"`
	Body         string `json:"body" format:"regexp"` // RE2, found somewhere in the body; absent: any body passes

	TLS *CheckTLS `json:"tls"` // absent: as the pool's

	Interval     time.Duration `json:"interval" default:"2s" filled:"true" range:"50ms..1h"`
	Timeout      time.Duration `json:"timeout" filled:"true" range:"1ms..10s"`        // default: the interval, at most 10s
	Fall         int           `json:"fall" default:"3" filled:"true" range:"1..100"` // consecutive failures
	Rise         int           `json:"rise" default:"5" filled:"true" range:"1..100"` // consecutive successes
	FastInterval time.Duration `json:"fast_interval" range:"50ms..1h"`                // while a row against the present state is counted; default: the interval
	DownInterval time.Duration `json:"down_interval" range:"50ms..1h"`                // while a server is unhealthy; default: the interval
}

// CheckTLS has the check made over TLS, whatever the pool does.
type CheckTLS struct {
	ServerName         string `json:"server_name" format:"host"`
	InsecureSkipVerify bool   `json:"insecure_skip_verify"`
}

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct{ From, To int }

// Statuses gives ExpectStatus as ranges, as few as keep its order.
func (h HealthCheck) Statuses() []StatusRange { return statusRanges(h.ExpectStatus) }

func statusRanges(statuses []int) []StatusRange {
	var all []StatusRange
	for _, s := range statuses {
		if n := len(all); n > 0 && all[n-1].To == s-1 {
			all[n-1].To = s
			continue
		}
		all = append(all, StatusRange{s, s})
	}
	return all
}
