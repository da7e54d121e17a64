// Package test holds the tests of the whole system: the built binary with one
// configuration file, a serial line on which a program plays a sensor, Debian's
// mosquitto as the MQTT fleet, and unmodified third-party WAMP clients. They
// need the packages that scripts/test installs, and the build tag "system".
package test
