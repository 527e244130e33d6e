// Package storage is about storage pools and the volumes in them: the API under
// /1.0/storage-pools, and what instances and images ask of pools.
//
// Rules: a pool in use cannot be deleted (cached image volumes do not count; they go
// with it); keys that say what a pool lives on never change; volumes of instances and
// images come and go with those, not by the API of volumes. Custom volumes are not
// built yet. Tables owned: storage_pools, storage_pools_config, storage_pools_nodes,
// storage_volumes, storage_volumes_config, storage_volumes_snapshots and their kin.
//
// What is on disk is made by drivers, which live in the folders below; their contract
// is package driver. The record of a volume is written first and removed last, so that
// nothing lies on disk that no record knows; only image volumes, a cache, are the other
// way round.
package storage
