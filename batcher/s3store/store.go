package s3store

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"millrace/batcher"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// corruptTries is how often a body is sent whose checksum the store does not find right, and how often one is asked for that comes with a wrong
// one.
const corruptTries = 3

// PutIfAbsent implements [batcher.ObjectStore].
func (s *Store) PutIfAbsent(ctx context.Context, key string, body []byte, meta map[string]string) error {
	if err := batcher.CheckPut(key, meta); err != nil {
		return err
	}
	in := &s3.PutObjectInput{
		Bucket: &s.o.Bucket, Key: aws.String(s.o.Prefix + key), IfNoneMatch: aws.String("*"),
		ContentLength: aws.Int64(int64(len(body))), ContentType: aws.String("application/octet-stream"), Metadata: meta,
	}
	if s.o.Checksums == ChecksumsSupported {
		in.ChecksumCRC32C = aws.String(crcText(body))
	}
	err := s.putOnce(ctx, in, body)
	for try := 1; try < corruptTries && errors.Is(err, errCorrupted); try++ {
		err = s.putOnce(ctx, in, body)
	}
	if errors.Is(err, errCorrupted) {
		err = fmt.Errorf("%w: %w", batcher.ErrRefused, err)
	}
	if err != nil {
		return fmt.Errorf("put %q: %w", key, err)
	}
	return nil
}

func (s *Store) putOnce(ctx context.Context, in *s3.PutObjectInput, body []byte) error {
	ctx, cancel := s.call(ctx)
	defer cancel()
	in.Body = bytes.NewReader(body)
	_, err := s.client.PutObject(ctx, in)
	return classify(err)
}

// crcText is CRC-32C as S3 writes it: base64 of the big-endian sum.
func crcText(body []byte) string {
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli))
	return base64.StdEncoding.EncodeToString(sum)
}

// Get implements [batcher.ObjectStore]. A body of the right length and the wrong checksum is asked for again, since it may have changed on the
// way; if it stays wrong, the store has it so.
func (s *Store) Get(ctx context.Context, key string) ([]byte, batcher.ObjectInfo, error) {
	body, info, err := s.get(ctx, key)
	for try := 1; try < corruptTries && errors.Is(err, batcher.ErrDamaged); try++ {
		body, info, err = s.get(ctx, key)
	}
	if err != nil {
		err = fmt.Errorf("get %q: %w", key, err)
	}
	return body, info, err
}

func (s *Store) get(ctx context.Context, key string) ([]byte, batcher.ObjectInfo, error) {
	var none batcher.ObjectInfo
	if batcher.CheckKey(key) != nil {
		return nil, none, batcher.ErrNotFound
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	in := &s3.GetObjectInput{Bucket: &s.o.Bucket, Key: aws.String(s.o.Prefix + key)}
	if s.o.Checksums == ChecksumsSupported {
		in.ChecksumMode = types.ChecksumModeEnabled
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, none, classify(err)
	}
	defer out.Body.Close()
	size := aws.ToInt64(out.ContentLength)
	body := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err = io.Copy(body, out.Body)
	info := batcher.ObjectInfo{Key: key, Size: size, ModTime: aws.ToTime(out.LastModified).UTC(), Meta: lower(out.Metadata)}
	switch whole := out.ContentLength != nil && int64(body.Len()) == size; {
	case err == nil && whole:
		return body.Bytes(), info, nil
	case err == nil:
		return nil, none, fmt.Errorf("read %d bytes of %d: %w", body.Len(), size, batcher.ErrUnavailable)
	case whole && ctx.Err() == nil:
		// The connection has nothing more to say after the last byte: it is the SDK's check of the checksum that failed.
		return body.Bytes(), info, fmt.Errorf("%w: %d bytes: %w", batcher.ErrDamaged, size, err)
	}
	// The SDK's tries end with the header. A body that breaks off is for the caller to ask for again.
	return nil, none, fmt.Errorf("read the body: %w: %w", batcher.ErrUnavailable, err)
}

// Stat implements [batcher.ObjectStore].
func (s *Store) Stat(ctx context.Context, key string) (batcher.ObjectInfo, error) {
	if batcher.CheckKey(key) != nil {
		return batcher.ObjectInfo{}, fmt.Errorf("stat %q: %w", key, batcher.ErrNotFound)
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.o.Bucket, Key: aws.String(s.o.Prefix + key)})
	if err != nil {
		return batcher.ObjectInfo{}, fmt.Errorf("stat %q: %w", key, classify(err))
	}
	return batcher.ObjectInfo{
		Key: key, Size: aws.ToInt64(out.ContentLength), ModTime: aws.ToTime(out.LastModified).UTC(), Meta: lower(out.Metadata),
	}, nil
}

// lower undoes the spelling of HTTP header names, which some stores keep.
func lower(meta map[string]string) map[string]string {
	out := make(map[string]string, len(meta))
	for k, v := range meta {
		out[strings.ToLower(k)] = v
	}
	return out
}

// List implements [batcher.ObjectStore].
func (s *Store) List(ctx context.Context, opts batcher.ListOptions) iter.Seq2[batcher.ObjectInfo, error] {
	return func(yield func(batcher.ObjectInfo, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &s.o.Bucket, Prefix: aws.String(s.o.Prefix + opts.Prefix)}
		if opts.After != "" {
			in.StartAfter = aws.String(s.o.Prefix + opts.After)
		}
		if opts.Dirs {
			in.Delimiter = aws.String("/")
		}
		last := s.o.Prefix + opts.After
		for {
			page, err := s.page(ctx, in)
			if err != nil {
				yield(batcher.ObjectInfo{}, fmt.Errorf("list %q: %w", opts.Prefix, err))
				return
			}
			for _, info := range s.infos(page, opts.Dirs) {
				if full := s.o.Prefix + info.Key; full <= last {
					// A prefix that a page before had, or that After names, comes again where keys below it follow; a store without order
					// would show here, too, and nothing may be skipped for it.
					if !opts.Dirs {
						yield(batcher.ObjectInfo{}, fmt.Errorf("list %q: %q comes after %q: %w", opts.Prefix, full, last, batcher.ErrNotSafe))
						return
					}
					continue
				} else {
					last = full
				}
				if !yield(info, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) || page.NextContinuationToken == nil {
				return
			}
			in.ContinuationToken = page.NextContinuationToken
		}
	}
}

func (s *Store) page(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := s.call(ctx)
	defer cancel()
	out, err := s.client.ListObjectsV2(ctx, in)
	return out, classify(err)
}

// infos returns what a page has: objects, or with dirs the common prefixes.
func (s *Store) infos(page *s3.ListObjectsV2Output, dirs bool) []batcher.ObjectInfo {
	var infos []batcher.ObjectInfo
	if dirs {
		for _, p := range page.CommonPrefixes {
			infos = append(infos, batcher.ObjectInfo{Key: strings.TrimPrefix(aws.ToString(p.Prefix), s.o.Prefix)})
		}
		return infos
	}
	for _, o := range page.Contents {
		infos = append(infos, batcher.ObjectInfo{
			Key: strings.TrimPrefix(aws.ToString(o.Key), s.o.Prefix), Size: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified).UTC(),
		})
	}
	return infos
}
