package bad

import (
	"context"
	"log"

	"github.com/nats-io/nats.go"
	"millrace/batcher"
)

func init() { log.Printf("%v %v", nats.Version, batcher.PageSize) }

func Exported(ctx context.Context, a, b, c, d int) {
	for range a {
		if a > b {
			for range c {
				switch {
				case d > 0:
					if a == b {
						log.Printf("deep")
					}
				}
			}
		}
	}
}

func six(a, b, c, d, e, f int) {}
