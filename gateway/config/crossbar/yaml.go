package crossbar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// yaml writes what has been understood. Strings are written as JSON writes
// them, which is YAML too and needs no rules of its own.
func (t *translation) yaml() []byte {
	var b bytes.Buffer
	b.WriteString("# Translated from the configuration of a Crossbar.io node.\n")
	if len(t.notes) > 0 {
		b.WriteString("# Not taken over, or not as it was:\n")
		for _, n := range t.notes {
			fmt.Fprintf(&b, "#   %s\n", strings.ReplaceAll(n.String(), "\n", " "))
		}
	}
	b.WriteString("\nlisten:\n")
	t.listener(&b, "http", t.http)
	t.listener(&b, "rawsocket", t.raw)
	if len(t.universals) > 0 {
		t.listener(&b, "universal", t.universals)
	}
	if t.unix != "" {
		fmt.Fprintf(&b, "  unix: %s\n", quote(t.unix))
	}
	if len(t.realms) > 0 {
		b.WriteString("\nrealms:\n")
	}
	for _, r := range t.realms {
		r.yaml(&b)
	}
	b.WriteString("\nmqtt:\n  enabled: false\n")
	return b.Bytes()
}

func (t *translation) listener(b *bytes.Buffer, kind string, addresses []string) {
	if addresses == nil {
		addresses = []string{}
	}
	files := t.tls[kind]
	if files == nil {
		fmt.Fprintf(b, "  %s: %s\n", kind, quote(addresses))
		return
	}
	fmt.Fprintf(b, "  %s:\n    addresses: %s\n    tls: {cert: %s, key: %s}\n", kind, quote(addresses), quote(files.cert), quote(files.key))
}

func (r *realm) yaml(b *bytes.Buffer) {
	fmt.Fprintf(b, "  - name: %s\n", quote(r.name))
	if r.anonymous != "" {
		fmt.Fprintf(b, "    anonymous: %s\n", quote(r.anonymous))
	}
	if len(r.roles) > 0 {
		b.WriteString("    roles:\n")
	}
	for _, ro := range r.roles {
		fmt.Fprintf(b, "      - name: %s\n", quote(ro.name))
		if len(ro.rules) > 0 {
			b.WriteString("        permissions:\n")
		}
		for _, p := range ro.rules {
			allow := p.allow
			if allow == nil {
				allow = []string{}
			}
			fmt.Fprintf(b, "          - {uri: %s, match: %s, allow: %s", quote(p.uri), quote(p.match), quote(allow))
			if len(p.disclose) > 0 {
				fmt.Fprintf(b, ", disclose: %s", quote(p.disclose))
			}
			b.WriteString("}\n")
		}
		if ro.authorizer != "" {
			fmt.Fprintf(b, "        authorizer: {procedure: %s}\n", quote(ro.authorizer))
		}
	}
	if len(r.history) > 0 {
		b.WriteString("    history:\n")
	}
	for _, h := range r.history {
		fmt.Fprintf(b, "      - {uri: %s, match: %s", quote(h.uri), quote(h.match))
		if h.limit > 0 {
			fmt.Fprintf(b, ", limit: %d", h.limit)
		}
		b.WriteString("}\n")
	}
	if len(r.users)+len(r.dynamic) == 0 {
		return
	}
	b.WriteString("    auth:\n")
	if len(r.users) > 0 {
		b.WriteString("      users:\n")
	}
	for _, u := range r.users {
		fmt.Fprintf(b, "        - {authid: %s, role: %s", quote(u.authid), quote(u.role))
		if u.secret != "" {
			fmt.Fprintf(b, ", secret: %s", quote(u.secret))
		}
		if len(u.keys) > 0 {
			fmt.Fprintf(b, ", public_keys: %s", quote(u.keys))
		}
		b.WriteString("}\n")
	}
	if len(r.dynamic) > 0 {
		b.WriteString("      dynamic:\n")
	}
	for _, d := range r.dynamic {
		fmt.Fprintf(b, "        - {method: %s, procedure: %s}\n", quote(d.method), quote(d.procedure))
	}
}

func quote(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // strings and lists of them always can be
	return strings.TrimSuffix(b.String(), "\n")
}
