package security

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pharos-lb/pharos/cluster/fsm"
)

// maxJoinMessage bounds one message of the join exchange. An answer carries two
// certificates, three keys and the members' addresses: a few KiB.
const maxJoinMessage = 64 << 10

// joinRequest asks for a place in the cluster.
type joinRequest struct {
	TokenID string `json:"token_id"`
	Secret  []byte `json:"secret"` // 16 bytes; its SHA-256 is what the cluster knows
	Node    string `json:"node"`
	Address string `json:"address"` // control, host:port
	CSR     []byte `json:"csr"`     // DER; only its key and signature count
}

// joinAnswer is what a joining node gets: all of it, or a Code that says why
// not. Time is the server's clock in both cases.
type joinAnswer struct {
	Time       time.Time         `json:"time"`
	Code       joinCode          `json:"code,omitempty"`
	Message    string            `json:"message,omitempty"`
	ClusterID  string            `json:"cluster_id,omitempty"`
	NodeCert   []byte            `json:"node_cert,omitempty"` // DER
	CACert     []byte            `json:"ca_cert,omitempty"`   // DER
	SealedCA   []byte            `json:"sealed_ca,omitempty"` // as in the server's ca.key
	ClusterKey []byte            `json:"cluster_key,omitempty"`
	GossipKey  []byte            `json:"gossip_key,omitempty"`
	Members    map[string]string `json:"members,omitempty"` // name to control address
}

// joinCode is a refusal in its wire form. Codes are never renamed: a node may
// join a cluster of another version.
type joinCode string

const (
	codeInvalid   joinCode = "invalid_request"
	codeUnknown   joinCode = "token_unknown"
	codeUsed      joinCode = "token_used"
	codeExpired   joinCode = "token_expired"
	codeNameTaken joinCode = "name_taken"
	codeRetry     joinCode = "retry"
	codeUncertain joinCode = "uncertain"
	codeInternal  joinCode = "internal"
)

// The refusals of a join that are not the state machine's own.
var (
	// ErrFingerprint: the server is not of the cluster that the token is for.
	ErrFingerprint = errors.New("the server does not hold the CA certificate that the token names: the address is not of the cluster that made the token, or someone is in between")
	// ErrRetry: nothing happened, for want of a leader; the token is unspent.
	ErrRetry = errors.New("the cluster has no leader at present")
	// ErrUncertain: the token may have been spent. A new one is needed.
	ErrUncertain = errors.New("it is not known whether the token was spent")
	// ErrInvalidRequest: the server did not accept the name, address or key.
	ErrInvalidRequest = errors.New("the request was not accepted")
)

// refusals pairs codes with the errors that Admitter and Join speak of.
func refusals() map[joinCode]error {
	return map[joinCode]error{
		codeInvalid:   ErrInvalidRequest,
		codeUnknown:   fsm.ErrTokenUnknown,
		codeUsed:      fsm.ErrTokenUsed,
		codeExpired:   fsm.ErrTokenExpired,
		codeNameTaken: fsm.ErrNameTaken,
		codeRetry:     ErrRetry,
		codeUncertain: ErrUncertain,
	}
}

func codeOf(err error) joinCode {
	for code, sentinel := range refusals() {
		if errors.Is(err, sentinel) {
			return code
		}
	}
	return codeInternal
}

// JoinError is a member's refusal of a join. It unwraps to the sentinel of its
// cause: fsm.ErrTokenUnknown, fsm.ErrTokenUsed, fsm.ErrTokenExpired,
// fsm.ErrNameTaken, ErrRetry, ErrUncertain or ErrInvalidRequest.
type JoinError struct {
	Address string // of the member that refused
	Message string // its words; empty where the cause says all
	Cause   error  // one of the sentinels, or nil
}

// Error says what to do as well.
func (e *JoinError) Error() string {
	text := e.Message
	if e.Cause != nil {
		text = e.Cause.Error()
		if e.Message != "" {
			text += ": " + e.Message
		}
	}
	advice := ""
	switch {
	case errors.Is(e.Cause, fsm.ErrTokenUnknown), errors.Is(e.Cause, fsm.ErrTokenUsed),
		errors.Is(e.Cause, fsm.ErrTokenExpired), errors.Is(e.Cause, ErrUncertain):
		advice = ": make a new token with \"pharos token create\" on a member"
	case errors.Is(e.Cause, fsm.ErrNameTaken):
		advice = ": choose another --name, or remove the old node with \"pharos member remove\""
	case errors.Is(e.Cause, ErrRetry):
		advice = ": start a majority of the members and try again; the token is unspent"
	}
	return fmt.Sprintf("%s refused the join: %s%s", e.Address, text, advice)
}

// Unwrap gives the cause.
func (e *JoinError) Unwrap() error { return e.Cause }

// writeMessage sends one message: its length in 4 bytes, big-endian, and JSON.
func writeMessage(w io.Writer, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode a join message: %w", err)
	}
	if len(body) > maxJoinMessage {
		return fmt.Errorf("join message of %d bytes is over the limit of %d", len(body), maxJoinMessage)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("send a join message: %w", err)
	}
	return nil
}

// readMessage reverses writeMessage. Unknown fields are passed over: a newer
// version may say more.
func readMessage(r io.Reader, message any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read a join message: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxJoinMessage {
		return fmt.Errorf("join message of %d bytes: 1 to %d are allowed", n, maxJoinMessage)
	}
	var body bytes.Buffer // grows with what arrives, not with what is claimed
	if _, err := io.CopyN(&body, r, int64(n)); err != nil {
		return fmt.Errorf("read a join message of %d bytes: %w", n, err)
	}
	if err := json.Unmarshal(body.Bytes(), message); err != nil {
		return fmt.Errorf("decode a join message: %w", err)
	}
	return nil
}
