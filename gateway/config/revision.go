package config

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/gateway/config/strict"
	"github.com/postern-iot/postern/router"
)

// Revision is a config file read again, beside the configuration that runs.
type Revision struct {
	*Config
	// Restart are the paths of what differs and holds from the next start on:
	// everything but what the router can change while it runs, and the log's
	// level.
	Restart []string

	name  string
	place func(path string) (line, column int)
}

// LoadRevision reads the file at path again. The error is strict.Problems when
// it could be read and is not sound.
func LoadRevision(path string, table *devices.Table, running *Config) (*Revision, error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	// A file that is just being written may be empty: that is no wish to have
	// the defaults.
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	r := &Revision{name: path}
	if r.Config, r.place, err = parse(path, text, filepath.Dir(path), table); err != nil {
		return nil, err
	}
	for _, p := range strict.Differences(running, r.Config) {
		if !live(p) {
			r.Restart = append(r.Restart, p)
		}
	}
	if running.HomeRealm() != r.HomeRealm() && !slices.Contains(r.Restart, "realm") {
		r.Restart = append(r.Restart, "realms[0].name")
	}
	return r, nil
}

// live reports whether a path is the router's to change, or the log's level.
func live(path string) bool {
	if path == "log.level" {
		return true
	}
	for _, section := range []string{"realms", "cookies", "limits"} { // the keys of router.Config
		if path == section || strings.HasPrefix(path, section+".") || strings.HasPrefix(path, section+"[") {
			return true
		}
	}
	return false
}

// At says where in the file a path is: postern.yaml:12:3.
func (r *Revision) At(path string) string {
	line, column := r.place(path)
	return fmt.Sprintf("%s:%d:%d", r.name, line, column)
}

// ParseRealm reads one realm, as an entry of realms has it.
func ParseRealm(text []byte) (*router.RealmConfig, error) {
	var one struct {
		Realms []router.RealmConfig `yaml:"realms"`
	}
	if err := strict.Decode("realm", text, &one, strict.Options{}); err != nil {
		return nil, err
	}
	if len(one.Realms) != 1 {
		return nil, fmt.Errorf("realm: there are %d realms, not one", len(one.Realms))
	}
	return &one.Realms[0], nil
}
