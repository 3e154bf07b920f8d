package registry

import "reflect"

func (c *checker) healthCheck(p string, h HealthCheck) {
	http := c.has(p, "http", h)
	if http && c.has(p, "grpc", h) {
		c.add(p+".grpc", "cannot stand beside http: write one of them")
	}
	switch {
	case http && len(h.ExpectStatus) == 0:
		c.add(p+".expect_status", "is empty, must have at least one status")
	case !http && len(h.ExpectStatus) > 0 && h.GRPC == nil:
		c.add(p+".expect_status", "is of use with http only: a TCP check sees no status")
	case !http && len(h.ExpectStatus) > 0:
		c.add(p+".expect_status", "is of use with http only: a gRPC check has its own statuses")
	}
	if !http {
		c.useless(p, h, "http only", "method", "host", "headers", "body")
	}
	if h.Method == "HEAD" {
		c.useless(p, h, "a method whose response has a body only", "body")
	}
	// A Config that no document gave may have anything here.
	seen := map[int]bool{}
	for i, status := range h.ExpectStatus {
		at := element(p+".expect_status", i)
		if status < 200 || status > 599 {
			c.add(at, "is %d, must be 200 to 599", status)
		}
		if seen[status] {
			c.add(at, "%d is in the list already", status)
		}
		seen[status] = true
	}
}

func valueOf[T any](v *T) reflect.Value { return reflect.ValueOf(v).Elem() }
