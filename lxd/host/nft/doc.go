// Package nft writes chains of ours into nftables tables that others share.
//
// A table may belong to more than one daemon, so it is added when missing and
// never flushed or deleted. Each call is one transaction: all of it, or nothing.
package nft
