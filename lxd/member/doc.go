// Package member is the resource /1.0/cluster: it makes clusters, lets servers in,
// shows, changes, renames and removes members, and keeps their roles and the news of
// who is alive.
//
// Rules: a member is known to the others by its own certificate, and everybody else
// sees the one that all share; who is not known reaches neither the API's internal
// part nor the database. A step that fails leaves a lone server a lone server and a
// cluster as it was. Heartbeats never write to the database. Tables owned: nodes,
// nodes_config, nodes_roles, nodes_failure_domains. It knows pools and networks only
// through Resources.
package member
