// Package bridges has the presets of the MQTT bridge: the maps and calls of
// well-known fleets, as the YAML files beside it have them, embedded.
//
// In the files <prefix> stands for where the fleet is in the realm, <base> for
// the first levels of its topics, <broker> for the broker and <name> for what
// the names of maps and calls begin with; prefix and base at their head are the
// defaults.
package bridges

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed *.yaml
var files embed.FS

// Names lists the presets.
func Names() []string {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil // an embedded folder can always be read
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return out
}

// Text is a preset's file; "" when there is none of that name.
func Text(name string) string {
	b, err := files.ReadFile(name + ".yaml")
	if err != nil {
		return ""
	}
	return string(b)
}
