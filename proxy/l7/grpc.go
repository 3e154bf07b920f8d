package l7

import (
	"strconv"

	"github.com/pharos-lb/pharos/proxy/l7/http1"
)

// This file is how the proxy's own answers look to a client of gRPC, which
// looks for its status in trailers: a Trailers-Only response (gRPC over
// HTTP/2, "Responses") of HTTP status 200.

// grpcStatus is a status code of gRPC.
type grpcStatus int

const (
	grpcUnknown           grpcStatus = 2
	grpcDeadlineExceeded  grpcStatus = 4
	grpcPermissionDenied  grpcStatus = 7
	grpcResourceExhausted grpcStatus = 8
	grpcUnimplemented     grpcStatus = 12
	grpcInternal          grpcStatus = 13
	grpcUnavailable       grpcStatus = 14
	grpcUnauthenticated   grpcStatus = 16
)

// grpcStatusOf maps a failure as gRPC's "HTTP to gRPC Status Code Mapping"
// does, and beyond it: what is too large is RESOURCE_EXHAUSTED, as with gRPC's
// own limits. A server that was asked and is silent is DEADLINE_EXCEEDED, not
// UNAVAILABLE, which clients may take as leave to call again: it may be at work.
func grpcStatusOf(status int, why reason) grpcStatus {
	switch why {
	case serverTimeout, requestTimeout:
		return grpcDeadlineExceeded
	}
	switch status {
	case 400:
		return grpcInternal
	case 401:
		return grpcUnauthenticated
	case 403:
		return grpcPermissionDenied
	case 404, 501:
		return grpcUnimplemented
	case 413, 431:
		return grpcResourceExhausted
	case 429, 502, 503, 504:
		return grpcUnavailable
	}
	return grpcUnknown
}

const grpcType = "application/grpc"

// isGRPC reports whether a request is a call of gRPC, or of gRPC-Web, by its
// content type.
func isGRPC(req *http1.Request) bool {
	if string(req.Method) != "POST" {
		return false
	}
	for i := range req.Fields {
		f := &req.Fields[i]
		if len(f.Name) != len("content-type") || !http1.EqualFold(f.Name, "content-type") {
			continue
		}
		if len(f.Value) < len(grpcType) || !http1.EqualFold(f.Value[:len(grpcType)], grpcType) {
			return false
		}
		rest := f.Value[len(grpcType):]
		return len(rest) == 0 || rest[0] == '+' || rest[0] == ';' || rest[0] == '-'
	}
	return false
}

var (
	nameGRPCStatus  = []byte("grpc-status")
	nameGRPCMessage = []byte("grpc-message")
)

// grpcFailure is failure for a call of gRPC. The access log shows the status
// that it stands for.
func (w *worker) grpcFailure(x *exchange, status int, why reason) *answer {
	a := w.newAnswer(200, &x.site.HTTP)
	w.add(a, nameType, grpcType)
	if c := causes[why]; c.kind != "" {
		w.add(a, nameProxyStatus, "pharos; error=", c.kind, "; details=\"", c.word, "\"")
	}
	at := len(w.words)
	w.words = strconv.AppendInt(w.words, int64(grpcStatusOf(status, why)), 10)
	a.fields = append(a.fields, http1.Field{Name: nameGRPCStatus, Value: w.words[at:len(w.words):len(w.words)]})
	w.add(a, nameGRPCMessage, "pharos: ", why.String())
	if x.spoken == "HTTP/2.0" {
		return a // the head is the end, and needs no length
	}
	return w.sized(a)
}
