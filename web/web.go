// Package web holds the files of the gateway's page. It has no code: package
// gateway serves them.
package web

import "embed"

// Assets holds the directory "static": index.html and what it needs.
//
//go:embed static
var Assets embed.FS
