package l7

// reason says why the proxy answered itself, or cut a response short. The
// words are a fixed set: they go into the Proxy-Status field (RFC 9209) and the
// access log, and say nothing of what a client or a server sent.
type reason uint8

const (
	noReason reason = iota
	malformedRequest
	requestTooLarge
	requestTimeout
	noRoute
	clientRate
	poolFull
	queueFull
	queueTimeout
	serversFull
	noServer
	connectFailed
	connectTimeout
	serverBroke
	serverMalformed
	serverTimeout
	serverRefused
	tlsFailed
	tlsCertificate
	tlsAlert
	upgradeRefused
	clientGone // said in the log alone
)

// cause is what there is to say of a reason.
type cause struct {
	word string
	// kind is the proxy error type of RFC 9209 section 2.3.
	kind string
}

var causes = [...]cause{
	noReason:         {"-", ""},
	malformedRequest: {"malformed-request", "http_request_error"},
	requestTooLarge:  {"request-too-large", "http_request_error"},
	requestTimeout:   {"request-timeout", "http_request_error"},
	noRoute:          {"no-route", "destination_not_found"},
	clientRate:       {"client-rate", "http_request_denied"},
	poolFull:         {"pool-full", "connection_limit_reached"},
	queueFull:        {"queue-full", "connection_limit_reached"},
	queueTimeout:     {"queue-timeout", "connection_limit_reached"},
	serversFull:      {"servers-full", "connection_limit_reached"},
	noServer:         {"no-server", "destination_unavailable"},
	connectFailed:    {"connect-failed", "connection_refused"},
	connectTimeout:   {"connect-timeout", "connection_timeout"},
	serverBroke:      {"server-broke", "connection_terminated"},
	serverMalformed:  {"server-malformed", "http_protocol_error"},
	serverTimeout:    {"server-timeout", "http_response_timeout"},
	serverRefused:    {"server-refused", "destination_unavailable"},
	tlsFailed:        {"tls-failed", "tls_protocol_error"},
	tlsCertificate:   {"tls-certificate", "tls_certificate_error"},
	tlsAlert:         {"tls-alert", "tls_alert_received"},
	upgradeRefused:   {"upgrade-refused", "http_upgrade_failed"},
	clientGone:       {"client-gone", ""},
}

func (r reason) String() string { return causes[r].word }

// refusal is the reason that goes with a status of the codec's.
func refusal(status int) reason {
	switch status {
	case 408:
		return requestTimeout
	case 413, 431:
		return requestTooLarge
	}
	return malformedRequest
}
