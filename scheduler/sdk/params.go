package sdk

import (
	"fmt"
	"reflect"
	"strings"
)

// declare returns the declarations of parameters that the fields of a struct are.
func declare(defaults any) (object, []error) {
	v := reflect.ValueOf(defaults)
	if v.Kind() != reflect.Struct {
		return nil, []error{fmt.Errorf("parameters must be a struct, got %T", defaults)}
	}
	var out object
	var errs []error
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		p, err := declareOne(f, v.Field(i))
		if err != nil {
			errs = append(errs, fmt.Errorf("parameter %q %w", name, err))
		}
		out = out.with(name, p)
	}
	return out, errs
}

func declareOne(f reflect.StructField, v reflect.Value) (object, error) {
	kind := ""
	switch {
	case v.Kind() == reflect.String:
		kind = "string"
	case v.Kind() == reflect.Bool:
		kind = "boolean"
	case v.CanInt(), v.CanUint():
		kind = "integer"
	case v.CanFloat():
		kind = "number"
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		if kind = "array"; v.IsNil() {
			v = reflect.MakeSlice(v.Type(), 0, 0) // null is no list
		}
	default:
		return nil, fmt.Errorf("is a %s, want a string, a bool, a number or a list", v.Type())
	}
	required := f.Tag.Get("millrace") == "required"
	p := object{{"type", kind}}
	p = p.unless(f.Tag.Get("doc") == "", "description", f.Tag.Get("doc"))
	return p.unless(!required, "required", true).unless(required, "default", v.Interface()), nil
}
