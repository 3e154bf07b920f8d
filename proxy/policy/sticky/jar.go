package sticky

import (
	"errors"
	"fmt"
	"time"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// ClockSkew is how far the clocks of nodes may be apart without a session
// ending early.
const ClockSkew = time.Minute

// What must be added to a response that sets the cookie, so that caches keep
// it to its client (HAProxy's nocache). "no-cache" would be enough for caches
// that know RFC 9111 section 5.2.2; all know this.
const (
	ProtectName  = "Cache-Control"
	ProtectValue = "private"
)

// Key makes and verifies cookies. It must be random.
type Key [32]byte

// MaxKeys is how many keys a jar takes: each costs time on a forged cookie.
const MaxKeys = 8

// maxValue is the length of the longest value that is looked at: that of
// a signed one whose server has the longest name, all of it encoded.
const maxValue = signedName + 3*MaxServer

// Jar makes and reads the cookie of one pool. It is immutable, and safe for
// concurrent use.
type Jar struct {
	config Config // with defaults
	before string // of the value in Set-Cookie
	after  string
	signed []signer // one for each key
	hidden []sealer
	nonce  func([]byte)
}

// New makes the jar of the pool of this name. The first key makes cookies, all
// verify them, so that keys can be changed: a new one is first added at the
// end, on all nodes, then moved to the front. Formats but Plain need at least
// one. nonce fills its argument with random bytes; only Hidden needs it.
func New(c Config, pool string, keys []Key, nonce func([]byte)) (*Jar, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Format == "" {
		c.Format = Signed
	}
	if c.Path == "" {
		c.Path = "/"
	}
	switch {
	case c.Format != Plain && len(keys) == 0:
		return nil, fmt.Errorf("cookie %s: format %s needs a key", c.Name, c.Format)
	case len(keys) > MaxKeys:
		return nil, fmt.Errorf("cookie %s: %d keys are more than %d", c.Name, len(keys), MaxKeys)
	case c.Format == Hidden && nonce == nil:
		return nil, fmt.Errorf("cookie %s: format %s needs a source of nonces", c.Name, c.Format)
	}
	j := &Jar{config: c, before: c.Name + "=", after: attributes(c), nonce: nonce}
	if c.Format == Plain {
		return j, nil
	}
	for _, k := range keys {
		s, err := newSigner(k, pool)
		if err != nil {
			return nil, err
		}
		h, err := newSealer(k, pool)
		if err != nil {
			return nil, err
		}
		j.signed, j.hidden = append(j.signed, s), append(j.hidden, h)
	}
	return j, nil
}

// attributes are what follows the value in Set-Cookie (RFC 6265 section
// 4.1.2). Without Expires and Max-Age, the cookie ends with the browser's
// session, as HAProxy's does.
func attributes(c Config) string {
	s := "; Path=" + c.Path
	if c.Domain != "" {
		s += "; Domain=" + c.Domain
	}
	if c.Secure {
		s += "; Secure"
	}
	if c.HTTPOnly {
		s += "; HttpOnly"
	}
	switch c.SameSite {
	case Lax:
		s += "; SameSite=Lax"
	case Strict:
		s += "; SameSite=Strict"
	case None:
		s += "; SameSite=None"
	}
	return s
}

// Scratch is the room that a jar works in. One serves all jars, but one call at
// a time: each event loop has its own.
type Scratch struct {
	message [blockSize + maxValue]byte
	digest  [blockSize + digestSize]byte
	bytes   [maxValue]byte
	name    [MaxServer]byte
}

// Verdict says what is thought of a cookie.
type Verdict uint8

// The verdicts. All but Valid are as no cookie.
const (
	Absent    Verdict = iota
	Valid             // names a server, which may be gone
	Malformed         // not of our making
	Oversized         // longer than any of our making
	Forged            // looks like ours, and no key made it for this pool
	Idle              // not used for MaxIdle
	Old               // made more than MaxLife ago
	Future            // dated more than ClockSkew ahead
	verdicts          // their number
)

func (v Verdict) String() string {
	if v >= verdicts {
		return "unknown"
	}
	return [verdicts]string{"absent", "valid", "malformed", "oversized", "forged", "idle", "old", "future"}[v]
}

// Decision is what a request's cookie says.
type Decision struct {
	Verdict Verdict
	// Server is the name that a Valid cookie holds: a view of the request or
	// of the Scratch, good until either is used again.
	Server []byte
	// First is when the session began, Last when the cookie was made. Zero for
	// plain cookies, and without a Valid one.
	First, Last time.Time
	// Refresh asks for a new cookie though the server is the same: to put
	// MaxIdle off, or since an older key or another format made this one.
	Refresh bool
}

// Stays reports that the client's cookie is right for this server, so that
// none must be set.
func (d *Decision) Stays(server string) bool {
	return d.Verdict == Valid && !d.Refresh && string(d.Server) == server
}

// Parse reads the cookie of a request.
func (j *Jar) Parse(r policy.Request, now time.Time, s *Scratch) Decision {
	value, ok := r.Cookie(j.config.Name)
	switch {
	case !ok:
		return Decision{Verdict: Absent}
	case len(value) > maxValue:
		return Decision{Verdict: Oversized}
	case len(value) == 0:
		return Decision{Verdict: Malformed}
	case j.config.Format == Plain:
		return readPlain(value, s)
	}
	var c content
	var key int
	var verdict Verdict
	format := Signed
	switch value[0] {
	case signedVersion:
		c, key, verdict = readSigned(j.signed, value, s)
	case hiddenVersion:
		format = Hidden
		c, key, verdict = readHidden(j.hidden, value, s)
	default:
		verdict = Malformed
	}
	if verdict != Valid {
		return Decision{Verdict: verdict}
	}
	d := j.judge(c, now)
	d.Refresh = d.Refresh || key > 0 || format != j.config.Format
	return d
}

func readPlain(value []byte, s *Scratch) Decision {
	name, ok := readName(&s.name, value)
	if !ok {
		return Decision{Verdict: Malformed}
	}
	return Decision{Verdict: Valid, Server: name}
}

// content is what a cookie holds. Dates are in seconds since 1970.
type content struct {
	first, last int64
	server      []byte
}

// judge says whether a genuine cookie is still good. Clocks that differ count
// in the client's favour.
func (j *Jar) judge(c content, now time.Time) Decision {
	first, last := time.Unix(c.first, 0), time.Unix(c.last, 0)
	d := Decision{Verdict: Valid, Server: c.server, First: first, Last: last}
	if limit := j.config.MaxIdle; limit > 0 {
		// The date is not made new on every request, since that would cost a
		// field and keep caches out. What it may lag behind is given on top.
		lag := max(limit/16, time.Second)
		idle := now.Sub(last)
		switch {
		case idle < -ClockSkew:
			return Decision{Verdict: Future}
		case idle > limit+lag+ClockSkew:
			return Decision{Verdict: Idle}
		}
		d.Refresh = idle >= lag
	}
	if limit := j.config.MaxLife; limit > 0 {
		switch age := now.Sub(first); {
		case age < -ClockSkew:
			return Decision{Verdict: Future}
		case age > limit+ClockSkew:
			return Decision{Verdict: Old}
		}
	}
	return d
}

// ErrServer is a server's name that no cookie can hold.
var ErrServer = errors.New("the server's name is empty, or too long for a cookie")

// Append appends the value of a Set-Cookie field that keeps the client on the
// server. first is when the session began: a Valid decision's First, or zero
// for a new session. The error is ErrServer; dst is then returned as it was.
func (j *Jar) Append(dst []byte, s *Scratch, server string, first, now time.Time) ([]byte, error) {
	if server == "" || len(server) > MaxServer {
		return dst, ErrServer
	}
	if first.IsZero() {
		first = now
	}
	dst = append(dst, j.before...)
	switch f, l := first.Unix(), now.Unix(); j.config.Format {
	case Plain:
		dst = appendName(dst, server)
	case Hidden:
		dst = j.hidden[0].append(dst, s, server, f, l, j.nonce)
	default:
		dst = j.signed[0].append(dst, s, server, f, l)
	}
	return append(dst, j.after...), nil
}
