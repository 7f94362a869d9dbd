package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// idDigits is the width of the number in a message id, and idMark stands in its place in the template.
const (
	idDigits = 12
	idMark   = "############"
)

// eventTemplate is one Segment track of 544 bytes, as analytics-node writes it.
const eventTemplate = `{"messageId":"bench-` + idMark + `","type":"track","event":"Product Viewed","userId":"user-4711",` +
	`"timestamp":"2026-11-23T10:00:00.000Z","properties":{"product_id":"507f1f77bcf86cd799439011","sku":"G-32","category":"Games",` +
	`"name":"Monopoly: 3rd Edition","brand":"Hasbro","variant":"200 pieces","price":18.99,"quantity":1,"currency":"USD","position":3,` +
	`"url":"https://www.example.com/product/path"},"context":{"library":{"name":"@segment/analytics-node","version":"3.1.0"},` +
	`"locale":"en-US","userAgent":"Mozilla/5.0 (X11; Linux x86_64)"},"integrations":{}}`

// request is one HTTP request as bytes, whose message ids are patched in place: the generator does as little as it can.
type request struct {
	raw []byte
	ids []int // offsets of the numbers
}

// newRequest renders a request of n events: /v1/track for one, /v1/batch for more.
func newRequest(host, auth string, n int) *request {
	var body bytes.Buffer
	path := "/v1/track"
	if n == 1 {
		body.WriteString(eventTemplate)
	} else {
		path = "/v1/batch"
		body.WriteString(`{"sentAt":"2026-11-23T10:00:00.000Z","batch":[` + strings.Repeat(eventTemplate+",", n-1) + eventTemplate + "]}")
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		path, host, auth, body.Len())
	r := &request{raw: append([]byte(head), body.Bytes()...)}
	for from := len(head); ; {
		i := bytes.Index(r.raw[from:], []byte(idMark))
		if i < 0 {
			return r
		}
		r.ids = append(r.ids, from+i)
		from += i + idDigits
	}
}

// number gives the events the numbers first, first+1, …
func (r *request) number(first int64) {
	for i, at := range r.ids {
		n := first + int64(i)
		for d := idDigits - 1; d >= 0; d-- {
			r.raw[at+d] = byte('0' + n%10)
			n /= 10
		}
	}
}

// conn is one keep-alive connection.
type conn struct {
	c net.Conn
	r *bufio.Reader
}

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, r: bufio.NewReaderSize(c, 4<<10)}, nil
}

// roundTrip sends raw and returns the status of the answer, whose body it reads and drops.
func (c *conn) roundTrip(raw []byte) (status int, err error) {
	if _, err := c.c.Write(raw); err != nil {
		return 0, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, errors.New("short status line")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length := 0
	for {
		line, err = c.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > 16 && (line[0]|0x20) == 'c' && bytes.EqualFold(line[:15], []byte("content-length:")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:]))); err != nil {
				return 0, err
			}
		}
	}
	_, err = c.r.Discard(length)
	return status, err
}
