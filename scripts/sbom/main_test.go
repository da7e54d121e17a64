package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestOfItself takes the test's own binary apart.
func TestOfItself(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := run(w, self, "1.2.3+4", false); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two bills of one binary differ")
	}
	var doc document
	if err := json.Unmarshal(first.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if c := doc.Metadata.Component; doc.Format != "CycloneDX" || c.Name != "github.com/postern-iot/postern" || c.PURL != "pkg:golang/github.com/postern-iot/postern@1.2.3%2B4" {
		t.Errorf("bill of %+v", c)
	}
	if len(doc.Components) == 0 || doc.Components[0].Name != "std" || len(doc.Dependencies[0].DependsOn) != len(doc.Components) {
		t.Errorf("components %+v", doc.Components)
	}
	var texts bytes.Buffer
	if err := run(&texts, self, "", true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(texts.String(), "==== Go: LICENSE") || !strings.Contains(texts.String(), "Redistribution and use in source and binary forms") {
		t.Errorf("licences: %.300s", texts.String())
	}
	if err := run(&texts, "main.go", "", false); err == nil || !strings.Contains(err.Error(), "main.go") {
		t.Errorf("of a text: %v", err)
	}
}

func TestModule(t *testing.T) {
	c := module("library", "example.com/m", "v1.0.0", "h1:/VSOv3oDLlpqR2Epjn1Q7b2bSTplJIeV2ISgCl2W7nE=")
	if want := (hash{"SHA-256", "fd548ebf7a032e5a6a4761298e7d50edbd9b493a65248795d884a00a5d96ee71"}); len(c.Hashes) != 1 || c.Hashes[0] != want {
		t.Errorf("%+v", c)
	}
	if c := module("library", "example.com/m", "v1.0.0", "h9:x"); c.Hashes != nil {
		t.Errorf("a hash that is none: %+v", c)
	}
}
