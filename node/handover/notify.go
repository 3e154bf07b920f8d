package handover

import (
	"fmt"
	"net"
	"os"
)

const envNotify = "NOTIFY_SOCKET"

// followed says whether a service manager listens that will follow the node from
// process to process. A container ends with its process 1, whoever listens.
func followed() bool { return os.Getenv(envNotify) != "" && os.Getpid() != 1 }

// notify tells the service manager a state, by the protocol of sd_notify(3). It
// does nothing where none listens.
func notify(state string) error {
	path := os.Getenv(envNotify)
	if path == "" {
		return nil
	}
	// Go takes a leading @ for the abstract namespace, as the protocol does.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		return fmt.Errorf("tell the service manager %q (%s): %w", state, envNotify, err)
	}
	return nil
}
