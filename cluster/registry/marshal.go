package registry

import (
	"reflect"
	"strings"
)

// Marshal writes a configuration as a YAML document from which Parse makes the
// same one. The defaults that are stored are written out: a later version with
// other defaults reads the same from it. The error is Faults, if the
// configuration is not valid: a document that Parse refuses is never made. Keys
// are written as they are, so in clear if they are not sealed.
func (c Config) Marshal() ([]byte, error) {
	if faults := c.Validate(); len(faults) > 0 {
		return nil, faults
	}
	return c.Excerpt(), nil
}

// Excerpt writes a part of a configuration as Marshal writes the whole. It may
// refer to what it does not have.
func (c Config) Excerpt() []byte {
	var b strings.Builder
	for _, section := range describe(reflect.ValueOf(c)).pairs {
		if len(section.value.items) == 0 {
			continue
		}
		b.WriteString(section.key + ":\n")
		for _, element := range section.value.items {
			for _, line := range dashed(element.lines(4)) {
				b.WriteString("  " + line + "\n")
			}
		}
	}
	return []byte(b.String())
}
