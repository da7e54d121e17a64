// Command broken is an appliance's program that ends at once: an update to it
// must return by itself.
package main

func main() {}
