// Package node is the composition root of a Pharos node: it starts and stops
// the parts in order, translates the cluster's configuration into theirs, and
// is the only place that decides whether a VIP is announced.
package node
