package s3store

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"millrace/batcher"
)

// Part is an object from some offset on.
type Part struct {
	io.ReadCloser
	// Tag is the same as long as the object is.
	Tag string
}

// GetFrom opens an object at a byte offset, for those who read what does not fit into memory and go on where a body broke off: then tag is that of the part
// before. It has the SDK's tries up to the first byte; [Options].Timeout does not bound it, ctx does, also the reading. Checksums are the caller's to
// compare. Errors are those of [Store.Get]; batcher.ErrExists: there is another object now.
func (s *Store) GetFrom(ctx context.Context, key string, offset int64, tag string) (*Part, error) {
	in := &s3.GetObjectInput{Bucket: &s.o.Bucket, Key: aws.String(s.o.Prefix + key)}
	if offset > 0 {
		in.Range, in.IfMatch = aws.String(fmt.Sprintf("bytes=%d-", offset)), aws.String(tag)
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("get %q from byte %d: %w", key, offset, classify(err))
	}
	if offset > 0 && !strings.HasPrefix(aws.ToString(out.ContentRange), fmt.Sprintf("bytes %d-", offset)) {
		_ = out.Body.Close() // nothing of it is used
		return nil, fmt.Errorf("get %q from byte %d: the store sent the range %q: %w", key, offset, aws.ToString(out.ContentRange), batcher.ErrExists)
	}
	return &Part{ReadCloser: out.Body, Tag: aws.ToString(out.ETag)}, nil
}
