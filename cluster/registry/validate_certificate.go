package registry

import (
	"crypto/x509"
	"slices"
)

func (c *checker) certificates(certificates []Certificate) {
	for i, cert := range certificates {
		p := element("certificates", i)
		if cert.Key != "" {
			c.key(p, cert)
		}
		if len(cert.OCSP) > 0 {
			if reason := notOCSP(cert.OCSP); reason != "" {
				c.add(p+".ocsp", "%s", reason)
			}
		}
	}
}

func (c *checker) key(path string, cert Certificate) {
	if is, well := sealed(cert.Key); is {
		if !well {
			c.add(path+".key", "begins as a sealed key does, but no base64 follows")
		}
		if !well || c.open == nil {
			return
		}
		opened, err := c.open(KeyPurpose(cert.Name), string(cert.Key))
		if err != nil {
			c.add(path+".key", "%v", err)
			return
		}
		cert.Key = Secret(opened)
	}
	key, reason := keyOf(cert.Key)
	if reason != "" {
		c.add(path+".key", "%s", reason)
		return
	}
	chain, reason := chainOf(cert.Chain)
	if reason != "" || fits(key, chain[0]) {
		return // what is wrong with the chain was told already
	}
	if i := slices.IndexFunc(chain, func(link *x509.Certificate) bool { return fits(key, link) }); i >= 0 {
		c.add(path+".key", "is the key of the chain's certificate %d, must be that of the first", i+1)
		return
	}
	c.add(path+".key", "is not the key of the chain's first certificate")
}
