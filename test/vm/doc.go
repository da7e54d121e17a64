// Package vm tests the device drivers and the gateway's binary against a real
// Linux kernel with simulated hardware, under QEMU, without any privilege:
//
//	go test -tags vm ./test/vm
//
// build-kernel makes the kernel (kernel.config) once, outside the tree. The
// test compiles the tests with the tag vm of the packages listed in it, packs
// them and the gateway with guest, the machine's init, and boots. Those tests
// are named TestVM… and make sense in that machine only.
package vm
