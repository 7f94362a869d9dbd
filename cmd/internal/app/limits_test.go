package app

import (
	"reflect"
	"testing"

	"millrace/configs"
)

// TestLimitsAreConfigurable: every limit of the gateway has a key, and no key of one is ignored.
func TestLimitsAreConfigurable(t *testing.T) {
	t.Parallel()
	base := configs.Default().Ingest
	before := reflect.ValueOf(limits(&base))
	moved := map[string]string{}
	for i := range reflect.TypeFor[configs.Ingest]().NumField() {
		in := base
		f, key := reflect.ValueOf(&in).Elem().Field(i), reflect.TypeFor[configs.Ingest]().Field(i)
		if !f.CanInt() || key.Name == "TrustedProxies" {
			continue
		}
		f.SetInt(f.Int() + 7)
		after := reflect.ValueOf(limits(&in))
		n := 0
		for j := range after.NumField() {
			if !reflect.DeepEqual(before.Field(j).Interface(), after.Field(j).Interface()) {
				moved[after.Type().Field(j).Name] = key.Name
				n++
			}
		}
		if n != 1 {
			t.Errorf("ingest.%s changes %d limits, want one", key.Tag.Get("yaml"), n)
		}
	}
	for j := range before.NumField() {
		if name := before.Type().Field(j).Name; moved[name] == "" {
			t.Errorf("limit %s has no key", name)
		}
	}
}
