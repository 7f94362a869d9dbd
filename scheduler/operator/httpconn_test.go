package operator

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

// A connection chooses the server; a value in url can not. Its URI is in a variable of its own, not among the settings.
func TestHTTPConnectionSettings(t *testing.T) {
	t.Parallel()
	const uri = "https://etl:s3cret@h:8443/v1"
	vals := values{`conns["crm"].uri`: uri, `conns["pg"].uri`: "postgres://u:s3cret@h/d", "evil": "@evil.example/../x", "plain": "a"}
	for _, tt := range []struct{ name, connection, url, want, fail string }{
		{name: "path", connection: "conn:crm", url: "/items/${{ plain }}?q=${{ evil }}", want: "/items/a?q=%40evil.example%2F..%2Fx"},
		{name: "nothing", connection: "conn:crm"},
		{name: "a value", connection: "conn:crm", url: "/${{ evil }}", want: "/@evil.example%2F..%2Fx"},
		{name: "a host", connection: "conn:crm", url: "https://evil.example/", fail: "does not start with /"},
		{name: "a value first", connection: "conn:crm", url: "${{ evil }}", fail: "does not start with /"},
		{name: "dots", connection: "conn:crm", url: "/../admin", fail: "leads elsewhere"},
		{name: "another type", connection: "conn:pg", url: "/", fail: "connection pg is of type postgres"},
		{name: "no connection", connection: "env:X", url: "/", fail: "has to be conn:NAME"},
		{name: "an expression", connection: "conn:${{ plain }}", url: "/", fail: "can not stand in connection"},
	} {
		task := httpTask(scheduler.HTTP{Connection: tt.connection, URL: tt.url})
		list, err := HTTP{}.Settings(&task, vals)
		if tt.fail != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fail) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.fail)
			}
			continue
		}
		if err != nil || len(list) != 2 || list[1] != connVar+"="+uri || strings.Contains(list[0], "s3cret") {
			t.Errorf("%s: got %q, %v", tt.name, list, err)
			continue
		}
		e, err := Open(task.Kind, strings.TrimPrefix(list[0], Variable+"="))
		if err != nil || e.HTTP.URL != tt.want || e.HTTP.Connection != "env:"+connVar {
			t.Errorf("%s: got %+v, %v, want %q", tt.name, e, err, tt.want)
		}
	}
}

func TestReadHTTPBase(t *testing.T) {
	t.Parallel()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("etl:p@ss"))
	for uri, want := range map[string]HTTPBase{
		"https://h":                     {URL: "https://h", Headers: map[string]string{}},
		"http://h:81/a%2Fb/":            {URL: "http://h:81/a%2Fb", Headers: map[string]string{}},
		"https://etl:p%40ss@[::1]:8/v1": {URL: "https://[::1]:8/v1", Headers: map[string]string{"Authorization": basic}, Secrets: []string{basic, "p@ss"}},
		"https://etl@h?authorization=Bearer%20x&X-Tenant=emea": {
			URL: "https://h", Headers: map[string]string{"Authorization": "Bearer x", "X-Tenant": "emea"}, Secrets: []string{"Basic ZXRsOg==", "", "Bearer x"},
		},
	} {
		got, err := ReadHTTPBase(uri)
		if slices.Sort(got.Secrets); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
		if slices.Sort(want.Secrets); !cmp.Equal(got, want) {
			t.Errorf("%s (-want +got):\n%s", uri, cmp.Diff(want, got))
		}
	}
	for _, uri := range []string{"ftp://u:s3cret@h", "https://?x=s3cret", "https://u:s3cret@h?Host=x", "https://h?X-A=s3cret%0Ab", "https://h?X A=s3cret", "s3cret"} {
		if got, err := ReadHTTPBase(uri); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %+v, %v", uri, got, err)
		}
	}
}
