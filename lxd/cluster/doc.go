// Package cluster is what every part of the daemon needs to know of the other
// machines: who this member is, who the others are and whether they answer, and how
// to call them.
//
// It knows no resource. Forming a cluster, and what clients see of it, is package
// member's; sending a client's request to where its object lives is package rest's
// and the daemon's.
package cluster
