package traffic

import (
	"errors"
	"strings"
	"testing"
)

const lab = `{"backend":"b1","peer":"10.0.1.2:4321","path":"/"}`

func TestParseAnswer(t *testing.T) {
	for _, tc := range []struct {
		name   string
		in     string
		eof    bool
		want   answer
		notYet bool
		err    error
	}{
		{name: "by length", in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", want: answer{status: 200, size: 40}},
		{name: "by length, with more behind", in: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP", want: answer{status: 200, size: 40}},
		{name: "no body", in: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", want: answer{status: 204, closes: true, size: 65}},
		{name: "until the end", in: "HTTP/1.1 200 OK\r\n\r\nhi", eof: true, want: answer{status: 200, closes: true, size: 21}},
		{name: "until the end, which has not come", in: "HTTP/1.1 200 OK\r\n\r\nhi", notYet: true},
		{name: "chunked", in: "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\nX-Node: n2\r\n\r\n2\r\nhi\r\n0\r\n\r\n", want: answer{status: 503, node: "n2", size: 71}},
		{name: "chunked, not whole", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", notYet: true},
		{name: "identity", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n" + lab + "\r\n0\r\n\r\n", want: answer{status: 200, backend: "b1", peer: "10.0.1.2", size: 108}},
		{name: "half a head", in: "HTTP/1.1 200 OK\r\nConte", notYet: true},
		{name: "half a head, then the end", in: "HTTP/1.1 200 OK\r\nConte", eof: true, err: errTruncated},
		{name: "nothing, then the end", eof: true, err: errTruncated},
		{name: "half a body, then the end", in: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", eof: true, err: errTruncated},
		{name: "half a chunk, then the end", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi", eof: true, err: errTruncated},
		{name: "not HTTP", in: "SSH-2.0-OpenSSH\r\n\r\n", err: errMalformed},
		{name: "a status that is no number", in: "HTTP/1.1 2x0 OK\r\n\r\n", err: errMalformed},
		{name: "a length that is no number", in: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", err: errMalformed},
		{name: "two lengths", in: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", err: errMalformed},
		{name: "length and chunked", in: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", err: errMalformed},
		{name: "a chunk without end", in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz", err: errMalformed},
		{name: "endless head", in: "HTTP/1.1 200 OK\r\n" + strings.Repeat("a", maxAnswer), err: errMalformed},
		{name: "a body beyond all bounds", in: "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", err: errMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, done, err := parseAnswer([]byte(tc.in), tc.eof, "x-node")
			if !errors.Is(err, tc.err) {
				t.Fatalf("err = %v, want %v", err, tc.err)
			}
			if err != nil {
				return
			}
			if done == tc.notYet || got != tc.want {
				t.Errorf("got %+v, done %v; want %+v, done %v", got, done, tc.want, !tc.notYet)
			}
		})
	}
}

// However the stream is cut into pieces, the answer is the same, and no prefix
// of it is taken for the whole.
func TestParseAnswerOfEveryPrefix(t *testing.T) {
	whole := "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + lab
	for n := range whole {
		if a, done, err := parseAnswer([]byte(whole[:n]), false, ""); done || err != nil {
			t.Fatalf("of %d bytes: %+v, done %v, err %v", n, a, done, err)
		}
	}
	if a, done, err := parseAnswer([]byte(whole), false, ""); !done || err != nil || a.peer != "10.0.1.2" {
		t.Fatalf("of all: %+v, done %v, err %v", a, done, err)
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), true)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), false)
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n"+lab), false)
	f.Add([]byte(""), true)
	f.Fuzz(func(t *testing.T, in []byte, eof bool) {
		a, done, err := parseAnswer(in, eof, "x-node")
		if err == nil && !done && eof {
			t.Fatal("neither whole nor refused at the end of the stream")
		}
		if err == nil && done && (a.size > len(in) || a.size < 16 || a.status < 200) {
			t.Fatalf("%+v of %d bytes", a, len(in))
		}
	})
}
