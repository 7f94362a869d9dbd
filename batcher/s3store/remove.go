package s3store

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"millrace/batcher"
)

var _ batcher.Remover = (*Store)(nil)

// Remove implements [batcher.Remover]. It needs s3:DeleteObject on the prefix, which nothing else does.
func (s *Store) Remove(ctx context.Context, key string) error {
	if err := batcher.CheckRemove(key); err != nil {
		return err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.o.Bucket, Key: aws.String(s.o.Prefix + key)})
	if err = classify(err); err != nil && !errors.Is(err, batcher.ErrNotFound) {
		return fmt.Errorf("remove %q: %w", key, err)
	}
	return nil
}
