package s3store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"millrace/batcher"
	"millrace/ingest"
)

// Values of [Options].Checksums.
const (
	ChecksumsSupported = "when_supported"
	ChecksumsRequired  = "when_required"
)

// maxIdle is how many connections stay open between calls: objects of one entry are put in parallel.
const maxIdle = 64

// Options say which bucket and how to reach it. Bucket is required; the rest has defaults that suit AWS.
type Options struct {
	Bucket string
	// Prefix stands before all keys; "/" is added if it does not end in one. Default: none.
	Prefix string
	// Region of the bucket; default: what the SDK finds in the environment and its files, else us-east-1.
	Region string
	// Endpoint is the URL of a store other than AWS.
	Endpoint string
	// PathStyle puts the bucket into the path instead of the host name, as most other stores want it.
	PathStyle bool
	// AccessKey and SecretKey; default: what the SDK finds (environment, files, the machine's role).
	AccessKey, SecretKey ingest.Secret
	// Checksums is ChecksumsSupported (default) or ChecksumsRequired.
	Checksums string
	// MaxAttempts bounds the tries of one call, with the SDK's back-off between them; default 3.
	MaxAttempts int
	// Timeout bounds one call with all its tries; default 2 min.
	Timeout time.Duration
	// Log takes warnings; nil discards them.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Prefix != "" && !strings.HasSuffix(o.Prefix, "/") {
		o.Prefix += "/"
	}
	if o.Checksums == "" {
		o.Checksums = ChecksumsSupported
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = 3
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if o.Bucket == "" {
		errs = append(errs, errors.New("bucket is empty"))
	}
	if strings.HasSuffix(o.Bucket, "--x-s3") {
		errs = append(errs, fmt.Errorf("bucket %q is a directory bucket, whose lists are in no order: %w", o.Bucket, batcher.ErrNotSafe))
	}
	if p := strings.TrimSuffix(o.Prefix, "/"); p != "" && batcher.CheckKey(p) != nil {
		errs = append(errs, fmt.Errorf("prefix is %q, want parts of [A-Za-z0-9._=%%-] with '/' between", o.Prefix))
	}
	if len(o.Prefix) > 256 {
		errs = append(errs, fmt.Errorf("prefix has %d bytes, at most 256", len(o.Prefix)))
	}
	if o.Checksums != ChecksumsSupported && o.Checksums != ChecksumsRequired {
		errs = append(errs, fmt.Errorf("checksums is %q, want %s or %s", o.Checksums, ChecksumsSupported, ChecksumsRequired))
	}
	if (o.AccessKey == "") != (o.SecretKey == "") {
		errs = append(errs, errors.New("access key and secret key go together"))
	}
	if o.MaxAttempts < 1 || o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("max attempts %d, timeout %v: want at least 1, and not negative", o.MaxAttempts, o.Timeout))
	}
	return errors.Join(errs...)
}

// Store keeps objects in a bucket. It implements [batcher.ObjectStore] and [batcher.Prober]. Safe for concurrent use.
type Store struct {
	client *s3.Client
	o      Options
}

// Open finds credentials and region where opts leave them out, and returns the store. It does not reach the bucket; see [Store.Probe].
func Open(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("open S3 store: %w", err)
	}
	o := opts.withDefaults()
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.MaxIdleConnsPerHost = maxIdle })
	load := []func(*config.LoadOptions) error{config.WithDefaultRegion("us-east-1"), config.WithHTTPClient(client)}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.AccessKey != "" {
		load = append(load, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(o.AccessKey.Reveal(), o.SecretKey.Reveal(), "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("open S3 store %q: %w", o.Bucket, err)
	}
	return &Store{o: o, client: s3.NewFromConfig(cfg, func(c *s3.Options) {
		c.UsePathStyle = o.PathStyle
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
		}
		c.RetryMaxAttempts = o.MaxAttempts
		c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
		c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
		if o.Checksums == ChecksumsRequired {
			c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
		c.DisableLogOutputChecksumValidationSkipped = true
	})}, nil
}

// Home implements [batcher.ObjectStore]: bucket and prefix. Endpoint and region are not in it: they are the way there, and may change.
func (s *Store) Home() string { return "s3://" + s.o.Bucket + "/" + s.o.Prefix }

// URI implements [batcher.ObjectStore].
func (s *Store) URI(key string) string { return s.Home() + key }

// call returns a context for one call.
func (s *Store) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.o.Timeout)
}
