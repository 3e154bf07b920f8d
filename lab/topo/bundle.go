package topo

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed anycast.clab.yml anycast l2.clab.yml l2
var embedded embed.FS

// suffix ends the name of a topology file.
const suffix = ".clab.yml"

// DefaultName is the topology that is meant when none is named, of Names.
const DefaultName = "anycast"

// DefaultFile is the name of its file.
const DefaultFile = DefaultName + suffix

// Names are those of the topologies that the binary carries.
func Names() []string {
	files, err := fs.Glob(embedded, "*"+suffix)
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for i, file := range files {
		files[i] = strings.TrimSuffix(file, suffix)
	}
	return files
}

// Bundle is a topology with the files that it names.
type Bundle struct {
	Topology *Topology
	File     string // base name of the topology file

	files fs.FS
	label string // what to call the file in errors
}

// Default returns the topology that is meant when none is named.
func Default() (*Bundle, error) { return open(embedded, DefaultFile, DefaultFile) }

// Open reads the topology at a path, or one of Names; an empty path is Default.
// A file whose path is the name of one is meant by ./NAME.
func Open(file string) (*Bundle, error) {
	if file == "" {
		return Default()
	}
	if slices.Contains(Names(), file) {
		return open(embedded, file+suffix, file+suffix)
	}
	return open(os.DirFS(filepath.Dir(file)), filepath.Base(file), file)
}

func open(files fs.FS, name, label string) (*Bundle, error) {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, fmt.Errorf("read topology %s: %w", label, err)
	}
	t, err := Parse(label, data)
	if err != nil {
		return nil, err
	}
	return &Bundle{Topology: t, File: name, files: files, label: label}, nil
}

// ClusterFile is where a topology's cluster configuration lies, relative to
// the topology file: NAME/cluster.yaml.
func (b *Bundle) ClusterFile() string { return path.Join(b.Topology.Name, "cluster.yaml") }

// VIPs returns the addresses of the VIPs in the cluster configuration. A
// topology without one has none.
func (b *Bundle) VIPs() ([]netip.Addr, error) {
	data, err := fs.ReadFile(b.files, b.ClusterFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster configuration of %s: %w", b.label, err)
	}
	// The product reads and checks the whole; here only the VIPs matter.
	var doc struct {
		VIPs []struct {
			Addresses []string `yaml:"addresses"`
		} `yaml:"vips"`
	}
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, yamlError(b.ClusterFile(), err)
	}
	var addresses []netip.Addr
	for _, vip := range doc.VIPs {
		for _, text := range vip.Addresses {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return nil, &Error{File: b.ClusterFile(), Path: "vips", Message: err.Error()}
			}
			addresses = append(addresses, addr)
		}
	}
	return addresses, nil
}

// CopyTo writes the topology file, the files that its nodes bind by relative
// paths, and the cluster configuration into dir, so that a lab that is up no
// longer depends on where it came from.
func (b *Bundle) CopyTo(dir string) error {
	names := map[string]bool{b.File: true}
	if _, err := fs.Stat(b.files, b.ClusterFile()); err == nil {
		names[b.ClusterFile()] = true
	}
	for _, node := range b.Topology.Nodes {
		for _, bind := range node.Binds {
			if path.IsAbs(bind.Source) {
				continue
			}
			if !fs.ValidPath(bind.Source) {
				return &Error{File: b.label, Path: "topology.nodes." + node.Name, Message: fmt.Sprintf("bind source %s leaves the topology's folder", bind.Source)}
			}
			names[bind.Source] = true
		}
	}
	for name := range names {
		if err := b.copyFile(dir, name); err != nil {
			return fmt.Errorf("copy %s, which topology %s names: %w", name, b.label, err)
		}
	}
	return nil
}

func (b *Bundle) copyFile(dir, name string) error {
	return fs.WalkDir(b.files, name, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, filepath.FromSlash(p))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := fs.ReadFile(b.files, p)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
}
