package topo

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Error is a fault in a topology file.
type Error struct {
	File    string
	Line    int // from 1; 0 if not known
	Column  int // from 1; 0 if not known
	Path    string
	Message string
}

// Error says where, and what is wrong.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// document is the part of containerlab's format that a lab of ours may use. A
// key that is not here is refused: a lab that silently ignored one would not
// be the lab that the file describes.
type document struct {
	Name     string  `yaml:"name"`
	Prefix   *string `yaml:"prefix"` // of container names
	Topology struct {
		Defaults definition            `yaml:"defaults"`
		Kinds    map[string]definition `yaml:"kinds"`
		Nodes    yaml.MapSlice         `yaml:"nodes"`
		Links    []linkDefinition      `yaml:"links"`
	} `yaml:"topology"`
}

type definition struct {
	Kind    string            `yaml:"kind"`
	Image   string            `yaml:"image"`
	Cmd     string            `yaml:"cmd"`
	Binds   []string          `yaml:"binds"`
	Sysctls map[string]string `yaml:"sysctls"`
	Exec    []string          `yaml:"exec"`
	Env     map[string]string `yaml:"env"`
	Labels  map[string]string `yaml:"labels"`
	CapAdd  []string          `yaml:"cap-add"`
	// For container engines alone:
	ImagePullPolicy string `yaml:"image-pull-policy"`
	NetworkMode     string `yaml:"network-mode"`
}

type linkDefinition struct {
	Endpoints []string `yaml:"endpoints"`
	MTU       int      `yaml:"mtu"`
}

var (
	namePattern      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	interfacePattern = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,15}$`)
	sysctlPattern    = regexp.MustCompile(`^[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)+$`)
)

// Parse reads a topology. file is the name to use in errors, which are *Error
// values, joined when there are several.
func Parse(file string, data []byte) (*Topology, error) {
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, yamlError(file, err)
	}
	var doc document
	if err := yaml.NodeToValue(documentBody(tree), &doc, yaml.Strict()); err != nil {
		return nil, yamlError(file, err)
	}
	p := &parsing{file: file, tree: tree}
	t := p.topology(&doc)
	if len(p.faults) > 0 {
		return nil, errors.Join(p.faults...)
	}
	return t, nil
}

func documentBody(tree *ast.File) ast.Node {
	for _, doc := range tree.Docs {
		if doc.Body != nil {
			return doc.Body
		}
	}
	return ast.Null(nil)
}

func yamlError(file string, err error) error {
	var typed yaml.Error
	if errors.As(err, &typed) {
		e := &Error{File: file, Message: typed.GetMessage()}
		if token := typed.GetToken(); token != nil && token.Position != nil {
			e.Line, e.Column = token.Position.Line, token.Position.Column
		}
		return e
	}
	return &Error{File: file, Message: err.Error()}
}

// parsing collects the faults of one file.
type parsing struct {
	file   string
	tree   *ast.File
	faults []error
}

// fault records what is wrong with the value at a YAML path such as
// "$.topology.links[0]".
func (p *parsing) fault(at, format string, args ...any) {
	e := &Error{File: p.file, Path: strings.TrimPrefix(at, "$."), Message: fmt.Sprintf(format, args...)}
	if yamlPath, err := yaml.PathString(at); err == nil {
		if node, err := yamlPath.FilterFile(p.tree); err == nil && node.GetToken() != nil {
			e.Line, e.Column = node.GetToken().Position.Line, node.GetToken().Position.Column
		}
	}
	p.faults = append(p.faults, e)
}

func (p *parsing) topology(doc *document) *Topology {
	t := &Topology{Name: doc.Name}
	if !namePattern.MatchString(doc.Name) {
		p.fault("$.name", "%q is not a lab's name: use a-z, 0-9 and -, at most 32", doc.Name)
	}
	if len(doc.Topology.Nodes) == 0 {
		p.fault("$.topology", "there are no nodes")
	}
	for _, item := range doc.Topology.Nodes {
		name, ok := item.Key.(string)
		at := "$.topology.nodes." + quotePath(fmt.Sprint(item.Key))
		if !ok || !namePattern.MatchString(name) {
			p.fault(at, "%q is not a node's name: use a-z, 0-9 and -, at most 32", fmt.Sprint(item.Key))
			continue
		}
		var def definition
		if yamlPath, err := yaml.PathString(at); err != nil {
			p.fault(at, "cannot be read: %v", err)
			continue
		} else if node, err := yamlPath.FilterFile(p.tree); err != nil {
			p.fault(at, "cannot be read: %v", err)
			continue
		} else if err := yaml.NodeToValue(node, &def, yaml.Strict()); err != nil {
			p.faults = append(p.faults, yamlError(p.file, err))
			continue
		}
		t.Nodes = append(t.Nodes, p.node(name, at, merge(doc, def)))
	}
	used := map[Endpoint]bool{}
	for i, def := range doc.Topology.Links {
		at := fmt.Sprintf("$.topology.links[%d]", i)
		if link, ok := p.link(t, at, def, used); ok {
			t.Links = append(t.Links, link)
		}
	}
	return t
}

// quotePath quotes a key for a YAML path where it needs that.
func quotePath(key string) string {
	if namePattern.MatchString(key) {
		return key
	}
	return "'" + strings.ReplaceAll(key, "'", `\'`) + "'"
}

// merge lays a node's own words over those of its kind and the defaults:
// single values replace, maps and lists add.
func merge(doc *document, own definition) definition {
	layers := []definition{doc.Topology.Defaults, {}, own}
	for _, layer := range layers {
		if layer.Kind != "" {
			layers[1] = doc.Topology.Kinds[layer.Kind]
		}
	}
	merged := definition{Sysctls: map[string]string{}, Env: map[string]string{}, Labels: map[string]string{}}
	for _, layer := range layers {
		for _, field := range []struct{ to, from *string }{
			{&merged.Kind, &layer.Kind},
			{&merged.Image, &layer.Image},
			{&merged.Cmd, &layer.Cmd},
		} {
			if *field.from != "" {
				*field.to = *field.from
			}
		}
		for _, field := range []struct{ to, from map[string]string }{
			{merged.Sysctls, layer.Sysctls},
			{merged.Env, layer.Env},
			{merged.Labels, layer.Labels},
		} {
			for k, v := range field.from {
				field.to[k] = v
			}
		}
		merged.Binds = append(merged.Binds, layer.Binds...)
		merged.Exec = append(merged.Exec, layer.Exec...)
		merged.CapAdd = append(merged.CapAdd, layer.CapAdd...)
	}
	return merged
}

func (p *parsing) node(name, at string, def definition) Node {
	n := Node{
		Name: name, Kind: def.Kind, Image: def.Image, Sysctls: def.Sysctls,
		Env: def.Env, Labels: def.Labels, CapAdd: def.CapAdd, Role: Role(def.Labels[RoleLabel]),
	}
	switch n.Kind {
	case KindLinux:
		if n.Role == RoleSwitch {
			p.fault(at, "label %s is %q: only kind %s can be one", RoleLabel, n.Role, KindBridge)
		}
	case KindBridge:
		p.bridge(at, n.Role, def)
	default:
		p.fault(at, "kind %q: only %s and %s are known here", n.Kind, KindLinux, KindBridge)
	}
	switch n.Role {
	case RoleRouter, RoleNode, RoleBackend, RoleClient, RoleSwitch:
	default:
		p.fault(at, "label %s is %q: it must be router, node, backend, client or switch", RoleLabel, n.Role)
	}
	var err error
	if n.Cmd, err = splitWords(def.Cmd); err != nil {
		p.fault(at, "cmd: %v", err)
	}
	for _, line := range def.Exec {
		argv, err := splitWords(line)
		if err == nil && len(argv) == 0 {
			err = errors.New("is empty")
		}
		if err != nil {
			p.fault(at, "exec %q: %v", line, err)
			continue
		}
		n.Exec = append(n.Exec, argv)
	}
	for key := range def.Sysctls {
		if !sysctlPattern.MatchString(key) {
			p.fault(at, "sysctl %q is not a dotted name such as net.ipv4.ip_forward", key)
		}
	}
	for _, text := range def.Binds {
		bind, err := parseBind(text)
		if err != nil {
			p.fault(at, "bind %q: %v", text, err)
			continue
		}
		n.Binds = append(n.Binds, bind)
	}
	return n
}

// bridge refuses what containerlab would not carry out for a bridge: it only
// joins links to one.
func (p *parsing) bridge(at string, role Role, def definition) {
	if role != RoleSwitch {
		p.fault(at, "label %s is %q: a bridge must be a switch", RoleLabel, role)
	}
	for _, word := range []struct {
		key   string
		given bool
	}{
		{"image", def.Image != ""},
		{"cmd", def.Cmd != ""},
		{"binds", len(def.Binds) > 0},
		{"sysctls", len(def.Sysctls) > 0},
		{"exec", len(def.Exec) > 0},
		{"env", len(def.Env) > 0},
	} {
		if word.given {
			p.fault(at, "a bridge has no %s: nothing runs on it", word.key)
		}
	}
}

func parseBind(text string) (Bind, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return Bind{}, errors.New("must be SOURCE:TARGET or SOURCE:TARGET:ro")
	}
	b := Bind{Source: path.Clean(parts[0]), Target: path.Clean(parts[1])}
	if !path.IsAbs(b.Target) || b.Target == "/" {
		return Bind{}, errors.New("the target must be an absolute path below /")
	}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			b.ReadOnly = true
		case "rw":
		default:
			return Bind{}, fmt.Errorf("option %q is not ro or rw", parts[2])
		}
	}
	return b, nil
}

func (p *parsing) link(t *Topology, at string, def linkDefinition, used map[Endpoint]bool) (Link, bool) {
	if len(def.Endpoints) != 2 {
		p.fault(at, "a link has two endpoints, this one has %d", len(def.Endpoints))
		return Link{}, false
	}
	link, good := Link{MTU: def.MTU}, true
	if link.MTU == 0 {
		link.MTU = DefaultMTU
	}
	if link.MTU < 1280 || link.MTU > 65535 {
		p.fault(at+".mtu", "%d is not from 1280 (IPv6's least) to 65535", link.MTU)
		good = false
	}
	for i, end := range []*Endpoint{&link.A, &link.B} {
		text := def.Endpoints[i]
		where := fmt.Sprintf("%s.endpoints[%d]", at, i)
		node, iface, found := strings.Cut(text, ":")
		*end = Endpoint{Node: node, Interface: iface}
		switch _, known := t.Node(node); {
		case !found || !interfacePattern.MatchString(iface):
			p.fault(where, "%q is not NODE:INTERFACE", text)
		case !known:
			p.fault(where, "there is no node %q", node)
		case used[*end]:
			p.fault(where, "%s is the end of another link already", text)
		default:
			used[*end] = true
			continue
		}
		good = false
	}
	return link, good
}
