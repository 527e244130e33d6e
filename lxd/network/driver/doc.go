// Package driver says what it takes to run one kind of network on this host.
//
// A Driver is handed a Spec with every call and owns what the host holds for
// the network: interfaces, firewall chains, helper processes, files below
// Spec.Dir. It knows nothing of projects, databases or the API. Each driver
// lives in a folder of its own, stands in the list of package all, and passes
// the suite in drivertest; so does the fake.
package driver
