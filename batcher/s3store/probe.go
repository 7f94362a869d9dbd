package s3store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"millrace/batcher"
)

// Probe implements [batcher.Prober]. It leaves a small object below _millrace/probe/, because nothing here deletes.
func (s *Store) Probe(ctx context.Context) error {
	steps := []func(context.Context, string) error{s.probeCondition, s.probeChecksum, s.probeLifecycle}
	for _, step := range steps {
		if err := step(ctx, batcher.PrefixMeta+"probe/"+rand.Text()); err != nil {
			return fmt.Errorf("probe %s: %w", s.Home(), err)
		}
	}
	return nil
}

// probeCondition puts twice to a fresh key.
func (s *Store) probeCondition(ctx context.Context, key string) error {
	meta := map[string]string{"probe": "1"}
	// A 412 to the first put is our own, if the SDK has repeated a put whose answer was lost; what counts is the body that is there.
	if err := s.PutIfAbsent(ctx, key, []byte("first"), meta); err != nil && !errors.Is(err, batcher.ErrExists) {
		return unsafe(err, "put of a fresh key")
	}
	switch err := s.PutIfAbsent(ctx, key, []byte("second"), meta); {
	case err == nil:
		return fmt.Errorf("the store took a second put of one key: it does not honour If-None-Match: %w", batcher.ErrNotSafe)
	case !errors.Is(err, batcher.ErrExists):
		return unsafe(err, "second put of one key")
	}
	body, info, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	if string(body) != "first" || info.Meta["probe"] != "1" {
		return fmt.Errorf("object reads %q with metadata %v: %w", body, info.Meta, batcher.ErrNotSafe)
	}
	return nil
}

// probeChecksum puts a body under the checksum of another one.
func (s *Store) probeChecksum(ctx context.Context, key string) error {
	if s.o.Checksums != ChecksumsSupported {
		return nil
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.o.Bucket, Key: aws.String(s.o.Prefix + key), IfNoneMatch: aws.String("*"),
		Body: bytes.NewReader([]byte("body")), ChecksumCRC32C: aws.String(crcText([]byte("other"))),
	})
	switch err := classify(err); {
	case err == nil:
		return fmt.Errorf("the store took a body with a wrong CRC-32C; set checksums to %s to do without: %w", ChecksumsRequired, batcher.ErrNotSafe)
	case errors.Is(err, errCorrupted), errors.Is(err, batcher.ErrRefused):
		return nil
	default:
		return err
	}
}

// unsafe makes a refusal ErrNotSafe: a store that refuses a small object at a plain key can not be used.
func unsafe(err error, what string) error {
	if errors.Is(err, batcher.ErrRefused) {
		return fmt.Errorf("%s: %w: %w", what, batcher.ErrNotSafe, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// probeLifecycle looks for rules that would take the chain away. Where it may not read them, it says so and goes on.
func (s *Store) probeLifecycle(ctx context.Context, _ string) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	out, err := s.client.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &s.o.Bucket})
	if err != nil {
		s.o.Log.Info("lifecycle rules of the bucket not checked", slog.String("bucket", s.o.Bucket), slog.Any("err", err))
		return nil
	}
	for _, rule := range out.Rules {
		if why := touches(rule, s.o.Prefix+batcher.PrefixMeta); why != "" {
			return fmt.Errorf("lifecycle rule %q %s; limit it to another prefix: %w", aws.ToString(rule.ID), why, batcher.ErrNotSafe)
		}
	}
	return nil
}

// touches says what a rule would do to objects below prefix, or "". Our objects have no tags and are never replaced, so rules by tag, for old
// versions and for unfinished uploads do not concern them.
func touches(rule types.LifecycleRule, prefix string) string {
	if rule.Status != types.ExpirationStatusEnabled {
		return ""
	}
	//lint:ignore SA1019 deprecated in the API, and still what old rules carry
	p := aws.ToString(rule.Prefix)
	if f := rule.Filter; f != nil {
		switch {
		case f.Tag != nil, f.And != nil && len(f.And.Tags) > 0:
			return ""
		case f.And != nil:
			p = aws.ToString(f.And.Prefix)
		case f.Prefix != nil:
			p = *f.Prefix
		}
	}
	if !strings.HasPrefix(prefix, p) && !strings.HasPrefix(p, prefix) {
		return ""
	}
	if e := rule.Expiration; e != nil && (e.Days != nil || e.Date != nil) {
		return "expires objects below " + prefix
	}
	for _, t := range rule.Transitions {
		if t.StorageClass == types.TransitionStorageClassGlacier || t.StorageClass == types.TransitionStorageClassDeepArchive {
			return "archives objects below " + prefix
		}
	}
	return ""
}
