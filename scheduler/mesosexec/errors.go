package mesosexec

import (
	"errors"
	"fmt"

	"millrace/scheduler"
)

// Errors of the client. Those that wrap [scheduler.ErrUnavailable] pass by themselves; the client goes on trying.
var (
	// ErrRemoved: the master has removed the framework, by a teardown or because its failover time-out was over. Its tasks are gone.
	ErrRemoved = errors.New("the framework was removed from the cluster")
	// ErrSuperseded: another process has subscribed with the framework's id.
	ErrSuperseded = errors.New("another process has subscribed as this framework")
	// ErrRefused: the master does not take the framework, or a call, as it is; the message says why.
	ErrRefused = errors.New("refused by the master")
	// ErrUnauthorised: the master does not accept the credentials.
	ErrUnauthorised = fmt.Errorf("the master does not accept the credentials: %w", scheduler.ErrUnavailable)
	// ErrNotMesos: what answers at the address is no Mesos master.
	ErrNotMesos = fmt.Errorf("what answers is no Mesos master: %w", scheduler.ErrUnavailable)
	// ErrNotSubscribed: there is no stream at present, or the master does not know it any more.
	ErrNotSubscribed = fmt.Errorf("not subscribed at a Mesos master: %w", scheduler.ErrUnavailable)
)

// final reports whether only a person can mend err.
func final(err error) bool {
	return errors.Is(err, ErrRemoved) || errors.Is(err, ErrSuperseded) || errors.Is(err, ErrRefused)
}
