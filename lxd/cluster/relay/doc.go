// Package relay sends requests to other members: a client's request as it is, with
// its body, answer and upgraded connection, or a call of this member's own.
//
// A relayed request carries who made it, and the member that gets it believes that,
// because only members can speak to it as one. It is never relayed a second time.
// The package knows no routes: who is asked, and why, others decide.
package relay
