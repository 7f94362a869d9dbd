package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"millrace/configs"
	"millrace/scheduler"
	"millrace/scheduler/operator/sql"
	"millrace/scheduler/vars"
	"millrace/scheduler/vars/vault"
)

// openValues makes the registry of variables, secrets and connections, with its keys and its Vault.
func (a *app) openValues(ctx context.Context, store scheduler.ValueStore) (*vars.Registry, error) {
	keys, err := openKeys(a.cfg)
	if err != nil {
		return nil, err
	}
	if a.vault, err = openVault(a.cfg); err != nil {
		return nil, err
	}
	return vars.Open(ctx, store, keys, a.valuesOf(a.cfg), vars.Options{Logger: a.log})
}

// valuesOf is what a configuration says; Vault stays the one of the start.
func (a *app) valuesOf(cfg *configs.Loaded) vars.Config {
	conf := cfg.DAGValues()
	if a.vault != nil { // a nil client is no nil backend
		conf.Vault = a.vault
	}
	return conf
}

func openKeys(cfg *configs.Loaded) (*vars.Keyring, error) {
	if cfg.SecretKey == "" {
		return vars.OpenKeys(cfg.Data(vars.KeyFile))
	}
	text, err := cfg.SecretKey.Resolve(cfg.Dir())
	if err != nil {
		return nil, fmt.Errorf("%w: secret_key: %w", configs.ErrInvalid, err)
	}
	keys, err := vars.NewKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", configs.ErrInvalid, err)
	}
	return keys, nil
}

// openVault returns nil if there is none.
func openVault(cfg *configs.Loaded) (*vault.Client, error) {
	v := cfg.Vault
	if v.Address == "" {
		return nil, nil
	}
	cache := v.Cache
	if cache == 0 {
		cache = -1 // none, where 0 is the default
	}
	c, err := vault.New(vault.Options{
		Address: v.Address, Mount: v.Mount, Namespace: v.Namespace, Timeout: v.Timeout, Cache: cache,
		Token: func() (string, error) {
			token, err := v.Token.Resolve(cfg.Dir())
			return string(token), err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", configs.ErrInvalid, err)
	}
	return c, nil
}

// dialTime bounds the test of a connection.
const dialTime = 10 * time.Second

// testConnection speaks to what a connection leads to: a database is asked for a row, of anything else it is seen whether its port answers.
func testConnection(ctx context.Context, fields map[string]string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	uri := fields["uri"]
	switch fields["type"] {
	case "sqlite", "postgres", "postgresql":
		q := &scheduler.SQL{Connection: "env:URI", Statements: []string{"SELECT 1"}, MaxRows: 1}
		uri = strings.Replace(uri, "sqlite://", "sqlite:", 1)
		_, err := sql.Do(ctx, q, sql.Options{Environ: func(string) (string, bool) { return uri, true }, Log: io.Discard})
		if err != nil {
			return "", err
		}
		return "the database answers a query", nil
	}
	port := fields["port"]
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "mysql": "3306", "redis": "6379", "ssh": "22"}[fields["type"]]
	}
	if fields["host"] == "" || port == "" {
		return "", errors.New("it has no host or no port: there is nothing that could be asked")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(fields["host"], port))
	if err != nil {
		return "", err
	}
	return "the port answers; login and password were not tried", conn.Close()
}
