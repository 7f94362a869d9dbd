package rules

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"millrace/batcher"
	"millrace/ingest"
)

// Limits of one expression.
const (
	MaxLength = 4096    // characters
	MaxCost   = 200_000 // of cel-go's cost units
	// MaxKey is the longest value of a key expression, in bytes.
	MaxKey = 256
)

// batch is what an expression sees: the names, and the types, of [batcher.Batch] in JSON, and the lane's keys with their values as in the
// object's key, percent-encoded.
type batch struct {
	ID          string            `json:"id"`
	Tenant      string            `json:"tenant"`
	Source      string            `json:"source"`
	Lane        string            `json:"lane"`
	LaneKeys    map[string]string `json:"lane_keys"`
	Stream      string            `json:"stream"`
	Seq         int64             `json:"seq"`
	Partition   int64             `json:"partition"`
	First       int64             `json:"first"`
	Last        int64             `json:"last"`
	Events      int64             `json:"events"`
	Bytes       int64             `json:"bytes"`
	RawBytes    int64             `json:"raw_bytes"`
	Key         string            `json:"key"`
	URI         string            `json:"uri"`
	Checksum    string            `json:"checksum"`
	Types       map[string]int64  `json:"types"`
	ReceivedMin time.Time         `json:"received_min"`
	ReceivedMax time.Time         `json:"received_max"`
	EventMin    time.Time         `json:"event_min"`
	EventMax    time.Time         `json:"event_max"`
	Watermark   time.Time         `json:"watermark"`
	CreatedAt   time.Time         `json:"created_at"`
	CommittedAt time.Time         `json:"committed_at"`
}

// activation holds the one variable.
type activation struct{ batch *batch }

// ResolveName implements the activation of cel-go.
func (a *activation) ResolveName(name string) (any, bool) { return a.batch, name == "batch" }

// Parent implements the activation of cel-go: there is none.
func (a *activation) Parent() cel.Activation { return nil }

func activate(b *batcher.Batch) *activation {
	v := &batch{
		ID: b.ID, Tenant: b.Tenant, Source: b.Source, Lane: string(b.Lane), LaneKeys: laneKeys(b.Lane), Stream: b.Stream.String(), Seq: b.Seq,
		Partition: int64(b.Partition), First: b.First, Last: b.Last, Events: b.Events, Bytes: b.Bytes, RawBytes: b.RawBytes,
		Key: b.Key, URI: b.URI, Checksum: b.Checksum, Types: b.Types, ReceivedMin: b.ReceivedMin, ReceivedMax: b.ReceivedMax,
		EventMin: b.EventMin, EventMax: b.EventMax, Watermark: b.Watermark, CreatedAt: b.CreatedAt, CommittedAt: b.CommittedAt,
	}
	if v.Types == nil {
		v.Types = map[string]int64{}
	}
	return &activation{v}
}

// laneKeys returns the parts of a lane after tenant and source.
func laneKeys(l ingest.Lane) map[string]string {
	keys := map[string]string{}
	for i, part := range strings.Split(string(l), "/") {
		if k, v, ok := strings.Cut(part, "="); ok && i > 2 {
			keys[k] = v
		}
	}
	return keys
}

// environment is made once: its options are constants, so a failure is a fault of this code.
var environment = sync.OnceValue(func() *cel.Env {
	env, err := cel.NewEnv(
		ext.NativeTypes(reflect.TypeFor[batch](), ext.ParseStructTag("json")), cel.Variable("batch", cel.ObjectType("rules.batch")),
		ext.Strings(), ext.Sets(), cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		cel.ParserRecursionLimit(64), cel.ParserExpressionSizeLimit(MaxLength),
	)
	if err != nil {
		panic(fmt.Sprintf("make the environment of rule expressions: %v", err))
	}
	return env
})

// want is what an expression must yield.
type want string

const (
	wantBool want = "a bool"
	wantKey  want = "a string, a number, a bool or a time"
)

func (w want) takes(t *cel.Type) bool {
	kinds := []*cel.Type{cel.DynType, cel.BoolType}
	if w == wantKey {
		kinds = append(kinds, cel.StringType, cel.IntType, cel.UintType, cel.DoubleType, cel.TimestampType, cel.DurationType)
	}
	for _, k := range kinds {
		if t.IsExactType(k) {
			return true
		}
	}
	return false
}

// program compiles and type-checks text. Errors are [Fault]s without a field, joined.
func program(what want, text string) (cel.Program, error) {
	if len(text) > MaxLength {
		return nil, &Fault{Line: 1, Column: 1, Msg: fmt.Sprintf("expression is longer than %d characters", MaxLength)}
	}
	checked, issues := environment().Compile(text)
	if issues.Err() != nil {
		var errs []error
		for _, e := range issues.Errors() {
			// cel-go counts columns from 0.
			errs = append(errs, &Fault{Line: max(1, e.Location.Line()), Column: max(1, e.Location.Column()+1), Msg: e.Message})
		}
		return nil, errors.Join(errs...)
	}
	if got := checked.OutputType(); !what.takes(got) {
		return nil, &Fault{Line: 1, Column: 1, Msg: fmt.Sprintf("expression yields %s, want %s", got, what)}
	}
	prg, err := environment().Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, &Fault{Line: 1, Column: 1, Msg: err.Error()}
	}
	return prg, nil
}

func evalBool(prg cel.Program, vars *activation) (bool, error) {
	val, _, err := prg.Eval(vars)
	if err != nil {
		return false, err
	}
	ok, is := val.(types.Bool)
	if !is {
		return false, fmt.Errorf("it yields %s, want %s", val.Type().TypeName(), wantBool)
	}
	return bool(ok), nil
}

func evalKey(prg cel.Program, vars *activation) (string, error) {
	val, _, err := prg.Eval(vars)
	if err != nil {
		return "", err
	}
	key, err := keyText(val)
	if err == nil && len(key) > MaxKey {
		err = fmt.Errorf("key has %d bytes, limit %d", len(key), MaxKey)
	}
	return key, err
}

func keyText(val ref.Val) (string, error) {
	switch val := val.(type) {
	case types.String:
		return string(val), nil
	case types.Int:
		return strconv.FormatInt(int64(val), 10), nil
	case types.Uint:
		return strconv.FormatUint(uint64(val), 10), nil
	case types.Double:
		return strconv.FormatFloat(float64(val), 'g', -1, 64), nil
	case types.Bool:
		return strconv.FormatBool(bool(val)), nil
	case types.Timestamp:
		return val.Time.UTC().Format(time.RFC3339Nano), nil
	case types.Duration:
		return val.Duration.String(), nil
	}
	return "", fmt.Errorf("it yields %s, want %s", val.Type().TypeName(), wantKey)
}
