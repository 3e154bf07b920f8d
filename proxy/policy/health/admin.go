package health

// Admin is the operator's word on a server, which holds before anything that
// was observed of it.
type Admin string

// What an operator may say.
const (
	InService   Admin = ""            // takes work while it is healthy
	Draining    Admin = "draining"    // takes no new work, keeps persisted sessions, is checked
	Maintenance Admin = "maintenance" // takes nothing, and is not checked
)

// Known reports whether a is one of the above.
func (a Admin) Known() bool { return a == InService || a == Draining || a == Maintenance }

// Status is what operators read of a server, in capitals: the operator's word,
// or else whether it takes work. A server that waits for its first check does
// not, and reads UNHEALTHY.
func (a Admin) Status(healthy bool) string {
	switch {
	case a == Draining:
		return "DRAINING"
	case a == Maintenance:
		return "MAINTENANCE"
	case healthy:
		return "HEALTHY"
	}
	return "UNHEALTHY"
}
