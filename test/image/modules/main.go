// Command modules prints the modules that images are made of, for go mod
// download.
package main

import (
	"fmt"

	"github.com/postern-iot/postern/image"
)

func main() {
	for _, m := range image.Modules() {
		fmt.Printf("%s@%s\n", m.Path, m.Version)
	}
}
