// Package network is about networks: those that drivers run on this host, and the
// host's other interfaces, which are shown and left alone.
//
// Rules: a network's name is an interface's name, so it is free on the host when
// the network is made; a network that profiles or instances use is neither
// renamed nor deleted; what is half-made when the daemon dies is taken away at its
// next start. Configuration keys that belong to a member are stored with it.
// Tables owned: networks, networks_config, networks_nodes.
package network
