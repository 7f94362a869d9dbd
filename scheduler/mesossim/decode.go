package mesossim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"millrace/scheduler/mesos"
)

// decode reads a call as Mesos does, with its messages.
func decode(body []byte) (*mesos.Call, error) {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("Failed to parse body into JSON: %s", syntax(body))
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, errors.New("Failed to parse body into JSON: syntax error at line 1 near: " + string(body))
	}
	var missing []string
	if err := shape(reflect.TypeFor[mesos.Call](), v, "", &missing); err != nil {
		return nil, fmt.Errorf("Failed to convert JSON into Call protobuf: %w", err)
	}
	if len(missing) > 0 {
		return nil, errors.New("Failed to convert JSON into Call protobuf: Missing required fields: " + strings.Join(missing, ", "))
	}
	call := new(mesos.Call)
	if err := json.Unmarshal(body, call); err != nil {
		return nil, fmt.Errorf("Failed to convert JSON into Call protobuf: %w", err)
	}
	return call, nil
}

// syntax says where a text ceases to be JSON.
func syntax(body []byte) string {
	dec := json.NewDecoder(bytes.NewReader(body))
	for {
		if _, err := dec.Token(); err != nil {
			rest := body[min(int(dec.InputOffset()), len(body)):]
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				rest = nil
			}
			line := 1 + bytes.Count(body[:len(body)-len(rest)], []byte("\n"))
			return fmt.Sprintf("syntax error at line %d near: %s", line, bytes.TrimLeft(rest, " :,"))
		}
	}
}

// shape holds a value against the type that it is to be. A field that may not be missing is one whose tag has no omission, but for numbers and switches.
func shape(t reflect.Type, v any, path string, missing *[]string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	field := path[strings.LastIndex(path, ".")+1:]
	if i := strings.IndexByte(field, '['); i > 0 {
		field = field[:i]
	}
	switch {
	case t == reflect.TypeFor[[]byte]():
		return isBytes(v, field)
	case t.Kind() == reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			return wrong(v, field)
		}
		return shapeStruct(t, m, path, missing)
	case t.Kind() == reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			return wrong(v, field)
		}
		for i, item := range list {
			if err := shape(t.Elem(), item, fmt.Sprintf("%s[%d]", path, i), missing); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Map:
		if _, ok := v.(map[string]any); !ok {
			return wrong(v, field)
		}
	case t.Kind() == reflect.String:
		if _, ok := v.(string); !ok {
			return wrong(v, field)
		}
	case t.Kind() == reflect.Bool:
		if _, ok := v.(bool); !ok {
			return wrong(v, field)
		}
	default:
		return isNumber(v, field)
	}
	return nil
}

func shapeStruct(t reflect.Type, m map[string]any, path string, missing *[]string) error {
	for i := range t.NumField() {
		name, rest, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		at := name
		if path != "" {
			at = path + "." + name
		}
		v, there := m[name]
		kind := t.Field(i).Type.Kind()
		if !there || v == nil {
			if !strings.Contains(rest, "omit") && kind != reflect.Float64 && kind != reflect.Bool && at != "type" {
				*missing = append(*missing, at)
			}
			continue
		}
		if err := shape(t.Field(i).Type, v, at, missing); err != nil {
			return err
		}
	}
	return nil
}

func isBytes(v any, field string) error {
	s, ok := v.(string)
	if !ok {
		return wrong(v, field)
	}
	var bad base64.CorruptInputError
	if _, err := base64.StdEncoding.DecodeString(s); errors.As(err, &bad) && int(bad) < len(s) {
		return fmt.Errorf("Failed to base64 decode bytes field '%s': Invalid character '%c'", field, s[bad])
	} else if err != nil {
		return fmt.Errorf("Failed to base64 decode bytes field '%s': Invalid length", field)
	}
	return nil
}

func isNumber(v any, field string) error {
	switch v := v.(type) {
	case float64:
		return nil
	case string:
		if _, err := strconv.ParseFloat(v, 64); err != nil {
			return fmt.Errorf("Failed to parse '%s' as a JSON number for field '%s': syntax error at line 1 near: %s", v, field, v)
		}
		return nil
	}
	return wrong(v, field)
}

func wrong(v any, field string) error {
	kind := "null"
	switch v.(type) {
	case float64:
		kind = "number"
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case []any:
		kind = "array"
	case map[string]any:
		kind = "object"
	}
	return fmt.Errorf("Not expecting a JSON %s for field '%s'", kind, field)
}

// validate returns what is wrong with a call, as Mesos says it.
func validate(call *mesos.Call, principal string) error {
	bodies := map[string]struct {
		name  string
		there bool
	}{
		mesos.CallSubscribe: {"subscribe", call.Subscribe != nil}, mesos.CallAccept: {"accept", call.Accept != nil},
		mesos.CallDecline: {"decline", call.Decline != nil}, mesos.CallKill: {"kill", call.Kill != nil}, mesos.CallShutdown: {"shutdown", call.Shutdown != nil},
		mesos.CallAcknowledge: {"acknowledge", call.Acknowledge != nil}, mesos.CallReconcile: {"reconcile", call.Reconcile != nil},
		mesos.CallMessage: {"message", call.Message != nil}, mesos.CallRequest: {"request", call.Request != nil},
		mesos.CallAcceptInverse:  {"accept_inverse_offers", call.AcceptInverse != nil},
		mesos.CallDeclineInverse: {"decline_inverse_offers", call.DeclineInverse != nil}, mesos.CallRevive: {"", true}, mesos.CallSuppress: {"", true},
		mesos.CallTeardown: {"", true}, mesos.CallAcknowledgeOp: {"acknowledge_operation_status", call.AcknowledgeOp != nil},
		mesos.CallReconcileOperations: {"reconcile_operations", call.ReconcileOperations != nil},
		mesos.CallUpdateFramework:     {"update_framework", call.UpdateFramework != nil},
	}
	body, known := bodies[call.Type]
	why := ""
	switch {
	case !known:
		why = "Expecting 'type' to be present"
	case call.Type == mesos.CallSubscribe:
		why = validateSubscribe(call, principal)
	case call.FrameworkID.Value == "":
		why = "Expecting 'framework_id' to be present"
	case !body.there:
		why = fmt.Sprintf("Expecting '%s' to be present", body.name)
	case call.Acknowledge != nil && !isUUID(call.Acknowledge.UUID):
		why = "Not a valid UUID"
	}
	if why == "" {
		return nil
	}
	return errors.New("Failed to validate scheduler::Call: " + why)
}

func validateSubscribe(call *mesos.Call, principal string) string {
	if call.Subscribe == nil {
		return "Expecting 'subscribe' to be present"
	}
	info := call.Subscribe.FrameworkInfo
	switch {
	case info.ID.Value != call.FrameworkID.Value:
		return "'framework_id' differs from 'subscribe.framework_info.id'"
	case principal != "" && info.Principal != "" && info.Principal != principal:
		return fmt.Sprintf("Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`", principal, info.Principal)
	}
	return ""
}

// isUUID reports whether bytes are a UUID.
func isUUID(b []byte) bool { return len(b) == 16 && b[8]&0xc0 == 0x80 && b[6]>>4 >= 1 && b[6]>>4 <= 5 }
