package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// failure is why a check did not pass: the step, and what went wrong in it.
type failure struct{ step, why string }

func (f *failure) Error() string { return f.step + ": " + f.why }

var (
	errTooLong   = errors.New("answer too long")
	errMalformed = errors.New("malformed answer")
)

// reason cuts an error down to what differs between failures: the address is
// known to the reader, and a constant text groups well. It quotes nothing that
// the server sent.
func reason(err error) string {
	var (
		errno     syscall.Errno
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		name      x509.HostnameError
		op        *net.OpError
		header    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, errTooLong):
		return errTooLong.Error()
	case errors.As(err, &authority):
		return "certificate of an unknown authority"
	case errors.As(err, &name):
		return "certificate for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "certificate expired or not valid yet"
	case errors.As(err, &invalid):
		return "certificate not valid"
	case errors.As(err, &op) && op.Op == "remote error":
		return "alert: " + strings.TrimPrefix(op.Err.Error(), "tls: ")
	case errors.As(err, &header):
		return "the server does not speak TLS"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed by the server"
	case strings.HasPrefix(err.Error(), "tls: "): // one of crypto/tls's constant texts
		return strings.TrimPrefix(err.Error(), "tls: ")
	}
	return errMalformed.Error()
}
