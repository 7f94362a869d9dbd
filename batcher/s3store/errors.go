package s3store

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"millrace/batcher"
)

// errCorrupted: the store found another checksum than we sent; nothing was stored.
var errCorrupted = errors.New("body changed on the way")

// codes are error codes that say more than their HTTP status.
var codes = map[string]error{
	"PreconditionFailed":          batcher.ErrExists,
	"ConditionalRequestConflict":  batcher.ErrUnavailable,
	"OperationAborted":            batcher.ErrUnavailable,
	"NoSuchKey":                   batcher.ErrNotFound,
	"NotFound":                    batcher.ErrNotFound,
	"NoSuchBucket":                batcher.ErrUnavailable,
	"EntityTooLarge":              batcher.ErrRefused,
	"KeyTooLongError":             batcher.ErrRefused,
	"MetadataTooLarge":            batcher.ErrRefused,
	"InvalidArgument":             batcher.ErrRefused,
	"InvalidURI":                  batcher.ErrRefused,
	"XMinioInvalidObjectName":     batcher.ErrRefused,
	"BadDigest":                   errCorrupted,
	"InvalidDigest":               errCorrupted,
	"XAmzContentSHA256Mismatch":   errCorrupted,
	"XAmzContentChecksumMismatch": errCorrupted,
	"IncompleteBody":              batcher.ErrUnavailable,
}

// advice are codes that an operator must mend, with how.
var advice = map[string]string{
	"AccessDenied":                 "grant s3:PutObject, s3:GetObject and s3:ListBucket on bucket and prefix",
	"Forbidden":                    "grant s3:PutObject, s3:GetObject and s3:ListBucket on bucket and prefix",
	"NoSuchBucket":                 "create the bucket, or correct its name",
	"InvalidAccessKeyId":           "correct the access key",
	"SignatureDoesNotMatch":        "correct the secret key",
	"AuthorizationHeaderMalformed": "set the bucket's own region",
	"PermanentRedirect":            "set the bucket's own region or endpoint",
	"ExpiredToken":                 "renew the credentials",
	"RequestTimeTooSkewed":         "set the clock of this machine",
	"NotImplemented":               "use a store that honours If-None-Match, or set checksums to when_required",
}

// classify turns an error of the SDK into one of the seam. nil stays nil.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var api smithy.APIError
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	if hint, ok := advice[code]; ok {
		return fmt.Errorf("%w: %s: %w", batcher.ErrUnavailable, hint, err)
	}
	if known, ok := codes[code]; ok {
		return fmt.Errorf("%w: %w", known, err)
	}
	return fmt.Errorf("%w: %w", byStatus(err), err)
}

// byStatus judges answers whose code is unknown or, as with HEAD, missing.
func byStatus(err error) error {
	var resp *awshttp.ResponseError
	if errors.Is(err, context.Canceled) || !errors.As(err, &resp) {
		return batcher.ErrUnavailable
	}
	switch resp.HTTPStatusCode() {
	case http.StatusPreconditionFailed:
		return batcher.ErrExists
	case http.StatusNotFound:
		return batcher.ErrNotFound
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong:
		return batcher.ErrRefused
	}
	return batcher.ErrUnavailable
}
