package store

import (
	"errors"
	"fmt"
)

var (
	// ErrNoLeader: no leader is known, so nothing can be written. A majority of
	// the members must be up and reach each other.
	ErrNoLeader = errors.New("no leader: a majority of the members must be up and reach each other")
	// ErrAmbiguous: the command was accepted, but whether it was or will be
	// carried out is unknown. Look at the state before trying again.
	ErrAmbiguous = errors.New("outcome unknown: the command may or may not be carried out")
	// ErrExists: there is a store already, so none is made.
	ErrExists = errors.New("this node has cluster state already")
	// ErrInUse: another process has the store open.
	ErrInUse = errors.New("in use by another process")
	// ErrClosed: the store is not running any more.
	ErrClosed = errors.New("the store is closed")
)

// NotLeaderError refuses what only the leader can do, and says who leads.
type NotLeaderError struct {
	LeaderName    string
	LeaderAddress string // control, host:port
}

func (e *NotLeaderError) Error() string {
	return fmt.Sprintf("not the leader: %s at %s is", e.LeaderName, e.LeaderAddress)
}

// CorruptError says that a file of the store cannot be trusted, and what to do.
type CorruptError struct {
	File   string // path
	Reason string
	Remedy string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged: %s; %s", e.File, e.Reason, e.Remedy)
}

// StorageError says that this node could not write its log: the command that
// got it was not carried out. With a full disk, errors.Is(err, syscall.ENOSPC) holds.
type StorageError struct {
	File string // path
	Err  error
}

func (e *StorageError) Error() string {
	return fmt.Sprintf("cannot write %s: %v; nothing was changed, and serving goes on: free some space or mend the disk, then try again", e.File, e.Err)
}

// Unwrap gives the cause.
func (e *StorageError) Unwrap() error { return e.Err }
