// Package acm is a USB serial adapter that can be pulled out, for the tests in
// the machine of test/vm.
package acm
