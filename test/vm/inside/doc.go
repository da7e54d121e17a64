// Package inside tests the gateway's own binary in the virtual machine of
// test/vm: a Raspberry Pi's configuration, unchanged, on a kernel that
// simulates the Pi's GPIO chip. Its tests have the tag vm and run there only.
package inside
