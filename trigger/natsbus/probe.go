package natsbus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/trigger"
)

// Probe connects to the external server of o and asks for its JetStream. It makes nothing there. [Open] does not fail where Probe does: a bus
// that is away delays triggers, and a server can start without it. Errors: trigger.ErrUnavailable with what is wrong.
func Probe(ctx context.Context, o Options) error {
	opts := []nats.Option{nats.Timeout(3 * time.Second), nats.NoReconnect()}
	if o.Creds != "" {
		opts = append(opts, nats.UserCredentials(o.Creds))
	}
	conn, err := nats.Connect(o.URL, opts...)
	if err != nil {
		return fmt.Errorf("connect to nats: %w: %w", trigger.ErrUnavailable, err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err == nil {
		_, err = js.AccountInfo(ctx)
	}
	if err != nil {
		return fmt.Errorf("ask nats for its JetStream: %w: %w", trigger.ErrUnavailable, err)
	}
	return nil
}
