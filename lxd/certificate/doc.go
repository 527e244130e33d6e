// Package certificate is about whom the server trusts over the network: the
// certificates of clients, of other members and of collectors of metrics, the
// tokens and the password by which new clients trust themselves, and what the
// server itself shows.
//
// Rules: a certificate is known by its fingerprint; what a caller may do hangs on
// the certificate it shows, looked up in memory for every request; a restricted
// certificate reaches its projects only; a token works once. Tables owned:
// certificates, certificates_projects. It must know nothing of who uses projects.
package certificate
