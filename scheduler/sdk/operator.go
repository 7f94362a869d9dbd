package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"syscall"
)

// settingsVariable is where an operator finds what a DAG file says below `with`.
const settingsVariable = "MILLRACE_OPERATOR"

// OperatorMain is the body of main in a program that is an operator: tasks of any DAG use it by the name of its file, which ends in ".op", and
// give it settings. It does what the command line says and ends the process:
//
//	describe        prints what the operator is for, and the JSON Schema of its settings; it runs nothing
//	run-task <id>   executes run, within the task contract
//
// The settings are the fields of T, a struct, by their names in JSON, with what run sees where a DAG file says nothing. The tag
// `millrace:"required"` is for a field that must be set, and `doc:"…"` describes one. What run returns is the task's output, unless it is nil.
// An error is a failed try; [NoRetry] and [Skip] are as in tasks.
func OperatorMain[T any](description string, defaults T, run func(ctx context.Context, a *Attempt, with T) (any, error)) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	op := &operator[T]{description, defaults, run}
	code := op.serve(ctx, process{args: os.Args[1:], env: os.Getenv, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

type operator[T any] struct {
	description string
	defaults    T
	run         func(ctx context.Context, a *Attempt, with T) (any, error)
}

func (o *operator[T]) serve(ctx context.Context, p process) int {
	switch {
	case slices.Equal(p.args, []string{verbDescribe}):
		return p.exit(o.describe(p))
	case len(p.args) == 2 && p.args[0] == verbRun:
		return p.exit(o.execute(ctx, p))
	}
	return p.exit(NoRetry(fmt.Errorf("usage: %s | %s TASK\nThis program is an operator: put it into the DAG directory of millrace, executable, "+
		"with a name that ends in .op", verbDescribe, verbRun)))
}

func (o *operator[T]) describe(p process) error {
	schema, err := schemaOf(reflect.ValueOf(o.defaults))
	if err != nil {
		return fmt.Errorf("describe the settings: %w", err)
	}
	text, err := encode(object{{"description", o.description}, {"settings", schema}})
	if err != nil {
		return err
	}
	_, err = p.out.Write(text)
	return err
}

func (o *operator[T]) execute(ctx context.Context, p process) error {
	with := o.defaults
	if err := readSettings(p.env(settingsVariable), &with); err != nil {
		return NoRetry(err)
	}
	a, err := readAttempt(p.env)
	if err != nil {
		return NoRetry(err)
	}
	a.Logger = p.logger()
	out, err := o.run(ctx, a, with)
	if err != nil || out == nil {
		return err
	}
	return writeOutput(p.env("MILLRACE_OUTPUT"), out)
}

// readSettings decodes what stands in `with` into a struct that has the defaults.
func readSettings(text string, into any) error {
	var e struct {
		V    int             `json:"v"`
		With json.RawMessage `json:"with"`
	}
	if text == "" {
		return fmt.Errorf("%s is not set: is this a task that has use?", settingsVariable)
	}
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return fmt.Errorf("read %s: %w", settingsVariable, err)
	}
	if e.V != 1 {
		return fmt.Errorf("read %s: it is version %d, and this package knows version 1", settingsVariable, e.V)
	}
	dec := json.NewDecoder(bytes.NewReader(e.With))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("take the settings: %w", err)
	}
	return nil
}

// schemaOf returns the JSON Schema of a value's type, with the value as default.
func schemaOf(v reflect.Value) (object, error) {
	switch v.Kind() {
	case reflect.String:
		return object{{"type", "string"}}, nil
	case reflect.Bool:
		return object{{"type", "boolean"}}, nil
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			return object{}, nil
		}
		items, err := schemaOf(reflect.Zero(v.Type().Elem()))
		return object{{"type", "array"}, {"items", items}}, err
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			return nil, fmt.Errorf("a %s can not be a setting: the keys of JSON are strings", v.Type())
		}
		values, err := schemaOf(reflect.Zero(v.Type().Elem()))
		return object{{"type", "object"}, {"additionalProperties", values}}, err
	case reflect.Struct:
		return structSchema(v)
	case reflect.Interface:
		return object{}, nil
	}
	switch {
	case v.CanInt(), v.CanUint():
		return object{{"type", "integer"}}, nil
	case v.CanFloat():
		return object{{"type", "number"}}, nil
	}
	return nil, fmt.Errorf("a %s can not be a setting", v.Type())
}

func structSchema(v reflect.Value) (object, error) {
	properties, required := object{}, []string{}
	var errs []error
	for name, f := range fieldsOf(v.Type()) {
		val := v.FieldByIndex(f.Index)
		schema, err := schemaOf(val)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		must := f.Tag.Get("millrace") == "required"
		if must {
			required = append(required, name)
		}
		schema = schema.unless(f.Tag.Get("doc") == "", "description", f.Tag.Get("doc"))
		properties = properties.with(name, schema.unless(must || val.IsZero(), "default", val.Interface()))
	}
	out := object{{"type", "object"}, {"properties", properties}, {"additionalProperties", false}}
	return out.unless(len(required) == 0, "required", required), errors.Join(errs...)
}
