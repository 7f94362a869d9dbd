package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// The kinds of values that an installation keeps for its DAGs.
const (
	ValueVariable   = "variable"
	ValueSecret     = "secret"
	ValueConnection = "connection"
)

// Where a value comes from, in the order in which they are asked.
const (
	FromEnvironment   = "environment"
	FromConfiguration = "configuration"
	FromVault         = "vault"
	FromStore         = "store"
)

var valueName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,249}$`)

// CheckValueName reports whether name may be that of a variable, a secret or a connection. ErrInvalid.
func CheckValueName(name string) error {
	if !valueName.MatchString(name) {
		return fmt.Errorf("%w: the name %q must start with a letter, a digit or _ and have at most 250 letters, digits, _, - and .", ErrInvalid, name)
	}
	return nil
}

// MaxValueText is the most that the text of a value may have, in bytes: what fits into one variable of a process.
const MaxValueText = 64 << 10

// sensitive are parts of names whose values nobody should read over a shoulder; Airflow has much the same list.
var sensitive = []string{
	"access_key", "api_key", "apikey", "authorization", "credential", "keyfile", "passphrase", "passwd", "password", "private_key", "secret", "token",
}

// Sensitive reports whether the name of a variable says that its value is not for every eye: it has password, secret, token or the like in it,
// or is key, or ends in _key. Such a variable is kept encrypted, shown as ***, and masked in the logs of tasks that are given it.
func Sensitive(name string) bool {
	low := strings.ReplaceAll(strings.ToLower(name), "-", "_")
	for _, word := range sensitive {
		if strings.Contains(low, word) {
			return true
		}
	}
	return low == "key" || strings.HasSuffix(low, "_key")
}

// ErrNoValue says that no source has a value of that name. A caller can not mend it by asking again.
var ErrNoValue = errors.New("is not set")

// ErrValueBusy says that whoever keeps the value does not answer now.
var ErrValueBusy = errors.New("can not be read now")

// StoredValue is a variable, a secret or a connection as the store has it. Kind and Name are its key, and a name is that of a variable or of a
// secret, not of both.
type StoredValue struct {
	Kind, Name string
	// Text is the value; if Sealed, it is encrypted, and the store does not know how.
	Text        string
	Sealed      bool
	Description string
	UpdatedAt   time.Time
	UpdatedBy   string
}

// Audit is a line of the audit trail about something that is no run: who did what to what, never with what value.
type Audit struct {
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`
	Action string    `json:"action"` // "set", "remove", "import", "rotate"
	Kind   string    `json:"kind"`
	Name   string    `json:"name"`
}

// ValueStore keeps values. Safe for concurrent use. Errors: ErrUnavailable.
type ValueStore interface {
	// Values returns all, by kind and name.
	Values(ctx context.Context) ([]StoredValue, error)
	// PutValues writes put (over what has the same kind and name), removes the keys of remove, and appends the audit lines: all of it durably in
	// one transaction, or nothing. Removing what is not there is no error.
	PutValues(ctx context.Context, put, remove []StoredValue, audit []Audit) error
	// Audits returns the newest lines first, at most limit.
	Audits(ctx context.Context, limit int) ([]Audit, error)
}

// Variable is a variable or a secret as people see it.
type Variable struct {
	Name string `json:"name"`
	// Value is the text; "***" for a secret and for a variable with a sensitive name.
	Value  string `json:"value"`
	Secret bool   `json:"secret"`
	// Origin is one of the From constants.
	Origin      string    `json:"origin"`
	Description string    `json:"description,omitempty"`
	UpdatedAt   time.Time `json:"updated_at,omitzero"`
	UpdatedBy   string    `json:"updated_by,omitempty"`
	// Hides says which other sources have a value that this one hides.
	Hides []string `json:"hides,omitempty"`
}

// Hidden is shown in the place of what is not to be shown.
const Hidden = "***"

// Connection is an address of another system, with what is needed to speak to it. URI is "type://login:password@host:port/schema?name=value".
type Connection struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Host  string `json:"host"`
	Port  int    `json:"port,omitempty"`
	Login string `json:"login,omitempty"`
	// Password is "***" if there is one.
	Password string `json:"password,omitempty"`
	// Schema is the path of the URI without its first slash: most often the name of a database.
	Schema string `json:"schema,omitempty"`
	// Extra are the values of the query; those with a sensitive name are "***".
	Extra       map[string]string `json:"extra,omitempty"`
	Origin      string            `json:"origin"`
	Description string            `json:"description,omitempty"`
	UpdatedAt   time.Time         `json:"updated_at,omitzero"`
	UpdatedBy   string            `json:"updated_by,omitempty"`
}

// Values is what expressions and operators are given. Safe for concurrent use.
type Values interface {
	// Variable returns the value of vars.NAME as JSON; false: no source has it. It does not block.
	Variable(name string) (json.RawMessage, bool)
	// Secret returns secrets.NAME. It may block, for as long as a backend's timeout. ErrNoValue, ErrValueBusy; what else goes wrong can not be mended
	// by asking again either.
	Secret(ctx context.Context, name string) (string, error)
	// Connection returns the fields of conns.NAME, by name, all of them text: type, host, port, login, password, schema, uri, and extra.<key> for each
	// value of the query. Errors as of Secret.
	Connection(ctx context.Context, name string) (map[string]string, error)
}

// ValueIndex says what there is, without reading it.
type ValueIndex interface {
	// Known reports whether some source has a value, or might: Vault is not asked. It does not block.
	Known(kind, name string) bool
}
