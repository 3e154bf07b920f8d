package tls

// Warning is something about a certificate that an operator should know, and
// that keeps nothing from being served.
type Warning struct {
	Certificate string // its name in the configuration
	Reason      string
}

func (w Warning) String() string { return "certificate " + w.Certificate + ": " + w.Reason }
