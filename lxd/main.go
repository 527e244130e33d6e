// Command lxd is the daemon and its administration verbs.
package main

func main() {}
