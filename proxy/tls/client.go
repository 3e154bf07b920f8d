package tls

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"

	"github.com/pharos-lb/pharos/proxy/policy"
)

// Client is how the servers of one pool are spoken to.
type Client struct {
	store  *Store
	config ClientConfig
	roots  *x509.CertPool // nil: the system's
}

// Client returns what makes configurations for the servers of one pool. The
// error joins *policy.Fault, among them a certificate that the store does not hold.
func (s *Store) Client(c ClientConfig) (*Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var f policy.Faults
	if c.Certificate != "" && s.snapshot.Load().entries[c.Certificate] == nil {
		f.Add("certificate", "there is no certificate %q", c.Certificate)
	}
	v := &Client{store: s, config: c}
	if len(c.CA) > 0 {
		var err error
		if v.roots, err = parsePool(c.CA); err != nil {
			f.Add("ca", "%v", err)
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	return v, nil
}

// Config returns a new configuration for connections to one server. Make it
// once for each server: it remembers the server's session, so that the next
// connection is resumed. Tickets of several servers must not be mixed, since
// servers seldom share their keys.
func (v *Client) Config(server netip.AddrPort) *tls.Config {
	c := &tls.Config{
		ServerName:                  v.config.ServerName,
		RootCAs:                     v.roots,
		InsecureSkipVerify:          v.config.InsecureSkipVerify,
		NextProtos:                  v.config.ALPN,
		MinVersion:                  tls.VersionTLS12,
		ClientSessionCache:          tls.NewLRUClientSessionCache(1),
		DynamicRecordSizingDisabled: true,
		Time:                        v.store.now,
	}
	if c.ServerName == "" {
		// An address is verified, and not sent (RFC 6066 section 3).
		c.ServerName = server.Addr().Unmap().WithZone("").String()
	}
	if v.config.Certificate != "" {
		c.GetClientCertificate = v.certificate
	}
	return c
}

// certificate is our own one, as the store holds it now.
func (v *Client) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	e := v.store.snapshot.Load().entries[v.config.Certificate]
	if e == nil {
		return &tls.Certificate{}, nil // it was taken away: the server decides
	}
	return &e.plain, nil
}
