package sdk

import (
	"cmp"
	"fmt"
	"iter"
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
	for name, f := range fieldsOf(v.Type()) {
		p, err := declareOne(f, v.FieldByIndex(f.Index))
		if err != nil {
			errs = append(errs, fmt.Errorf("parameter %q %w", name, err))
		}
		out = out.with(name, p)
	}
	return out, errs
}

// fieldsOf returns the fields of a struct that JSON has, by the names that they have there.
func fieldsOf(t reflect.Type) iter.Seq2[string, reflect.StructField] {
	return func(yield func(string, reflect.StructField) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.IsExported() && name != "-" && !yield(cmp.Or(name, f.Name), f) {
				return
			}
		}
	}
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
