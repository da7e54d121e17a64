// Package homeassistant speaks Home Assistant's MQTT discovery, both ways: it
// writes the configs that announce the gateway's devices, from what they say of
// themselves in the realm, and reads the configs of a fleet.
//
// It is pure: no I/O, no clock, no goroutine. What it reads is bounded, and what
// it does not understand it says, and does not guess.
//
// Source: https://www.home-assistant.io/integrations/mqtt/ and the pages of the
// components that it names.
package homeassistant
