package gpio

import (
	"testing"
	"unsafe"
)

func TestStructsHaveTheKernelsSizes(t *testing.T) {
	for name, c := range map[string][2]uintptr{
		"chip info":   {unsafe.Sizeof(uapiChipInfo{}), 68},
		"line info":   {unsafe.Sizeof(uapiLineInfo{}), 256},
		"line config": {unsafe.Sizeof(uapiLineConfig{}), 272},
		"request":     {unsafe.Sizeof(uapiLineRequest{}), 592},
		"values":      {unsafe.Sizeof(uapiLineValues{}), 16},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d bytes, want %d", name, c[0], c[1])
		}
	}
}
