package security

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The files of DIR/security. None is changed once written, but for node.crt,
// which Renew replaces.
const (
	subdir         = "security"
	caCertFile     = "ca.crt"      // PEM certificate
	caKeyFile      = "ca.key"      // sealed PKCS #8
	nodeCertFile   = "node.crt"    // PEM certificate
	nodeKeyFile    = "node.key"    // sealed PKCS #8
	clusterKeyFile = "cluster.key" // 32 bytes in hex
	gossipKeyFile  = "gossip.key"  // 32 bytes in hex
)

// Path is where a node with the data directory dir keeps its security files.
func Path(dir string) string { return filepath.Join(dir, subdir) }

// Exists says whether dir holds a cluster identity, whole or not.
func Exists(dir string) (bool, error) {
	_, err := os.Lstat(Path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", Path(dir), err)
	}
	return true, nil
}

// install writes all files as DIR/security, at once or not at all: they are
// made in a directory beside it, which is renamed into place. Where there is
// one already, that one wins and the error is ErrExists.
func install(dir string, files map[string][]byte) (err error) {
	_, statErr := os.Stat(dir)
	fresh := errors.Is(statErr, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory %s: %w", dir, err)
	}
	temp, err := os.MkdirTemp(dir, ".security-*")
	if err != nil {
		return fmt.Errorf("make a directory in %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(temp)
			if fresh {
				_ = os.Remove(dir) // leaves it if someone else put something in
			}
		}
	}()
	for name, data := range files {
		if err := writeSynced(filepath.Join(temp, name), data); err != nil {
			return err
		}
	}
	if err := syncDir(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, Path(dir)); err != nil {
		if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.ENOTDIR) {
			return fmt.Errorf("%s: %w", Path(dir), ErrExists)
		}
		return fmt.Errorf("put the security files in place: %w", err)
	}
	return syncDir(dir)
}

// replace writes one file anew, at once or not at all.
func replace(path string, data []byte) error {
	temp := path + ".new"
	_ = os.Remove(temp) // what a crash left
	if err := writeSynced(temp, data); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("put %s in place: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// readFile reads one of a node's security files.
func readFile(dir, name string) ([]byte, error) {
	path := filepath.Join(Path(dir), name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if here, _ := Exists(dir); !here {
			return nil, fmt.Errorf("%s holds no cluster identity (%w): make a cluster with \"pharos init\" or join one with \"pharos join\"", dir, ErrMissing)
		}
		return nil, fmt.Errorf("%s is %w: restore it from a backup, or empty %s and join the cluster again", path, ErrMissing, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// fault says which of a node's files is wrong, and what to do.
func fault(dir, name string, err error) error {
	return fmt.Errorf("%s: %w: restore it from a backup, or empty %s and join the cluster again", filepath.Join(Path(dir), name), err, dir)
}

func encodeKey(key []byte) []byte { return []byte(hex.EncodeToString(key) + "\n") }

func decodeKey(data []byte) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("not %d bytes in hex: %w", keyBytes, ErrCorrupt)
	}
	return key, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func decodeCertificate(data []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 {
		return nil, fmt.Errorf("not one PEM certificate: %w", ErrCorrupt)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not a certificate (%w): %w", err, ErrCorrupt)
	}
	return cert, nil
}
