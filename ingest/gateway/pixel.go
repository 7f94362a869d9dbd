package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"millrace/ingest/clickstream"
)

// image is one transparent pixel.
var image = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")

// pixel answers a GET of an image, which is an event of type typ, in mails and where no script runs. It is always answered with the image, since
// nobody would look at anything else (Segment, "Tracking Pixel API"); only with X-Millrace-Receipt was the event stored. Metrics count the
// status that a POST would have got.
func (s *Server) pixel(typ clickstream.Type) func(*exchange) error {
	return func(x *exchange) error {
		err := x.pixel(typ)
		h := x.w.Header()
		h["Content-Type"] = []string{"image/gif"}
		h["Cache-Control"] = []string{"no-store"}
		h["Cross-Origin-Resource-Policy"] = []string{"cross-origin"}
		if x.status = http.StatusOK; err != nil {
			x.status = faultOf(err).status
		}
		x.w.WriteHeader(http.StatusOK)
		_, _ = x.w.Write(image) // who has left does not need it
		return nil
	}
}

func (x *exchange) pixel(typ clickstream.Type) error {
	sources := x.s.sources.Load()
	sources.cors(x.w.Header(), x.r)
	query, _ := url.ParseQuery(x.r.URL.RawQuery) // what is not well formed is left out
	var err error
	if x.body, err = pixelBody(x.body[:0], query); err != nil {
		return err
	}
	x.key = append(x.key[:0], query.Get("writeKey")...)
	from := x.sender()
	from.Agent, from.Server = x.r.UserAgent(), false
	recs, err := x.records(sources, typ, from)
	if err != nil || len(recs) == 0 {
		return err
	}
	receipt, err := x.store(recs)
	if err != nil {
		return err
	}
	x.tally(sources)
	x.setReceipt(receipt)
	return nil
}

// pixelBody appends the event of a pixel: its parameter data, which is JSON or that in base64, of either alphabet and with or without padding,
// else its parameters themselves, whose names are dotted paths and whose values are text.
func pixelBody(dst []byte, query url.Values) ([]byte, error) {
	data := strings.TrimSpace(query.Get("data"))
	switch {
	case data == "":
		return pixelQuery(dst, query)
	case data[0] == '{':
		return append(dst, data...), nil
	}
	// A plus that was not escaped has become a space.
	plain := strings.TrimRight(strings.NewReplacer(" ", "+", "-", "+", "_", "/").Replace(data), "=")
	dst, err := base64.RawStdEncoding.AppendDecode(dst, []byte(plain))
	if err != nil {
		return dst, fmt.Errorf("read data of pixel: %w: %w", clickstream.ErrBadBody, err)
	}
	return dst, nil
}

// maxParams is how many parameters of a pixel are read.
const maxParams = 1000

// pixelQuery appends the event that the parameters are. Of a path and one below it the longer counts.
func pixelQuery(dst []byte, query url.Values) ([]byte, error) {
	root := map[string]any{}
	if len(query) > maxParams {
		return dst, fmt.Errorf("read pixel of %d parameters: %w", len(query), clickstream.ErrBadBody)
	}
	for _, path := range slices.Sorted(maps.Keys(query)) { // a path comes before those below it
		names := strings.Split(path, ".")
		if len(names) > clickstream.MaxDepth {
			return dst, fmt.Errorf("read pixel's parameter with %d dots: %w", len(names), clickstream.ErrBadBody)
		}
		at := root
		for _, name := range names[:len(names)-1] {
			below, ok := at[name].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[name] = below
			}
			at = below
		}
		at[names[len(names)-1]] = query[path][len(query[path])-1]
	}
	out := bytes.NewBuffer(dst)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(root); err != nil {
		return dst, fmt.Errorf("write event of pixel: %w", err)
	}
	return out.Bytes(), nil
}
