// Package vars knows the variables, secrets and connections of an installation: where each comes from, which source wins, and how what is kept in
// the store is encrypted.
//
//	variable    MILLRACE_VAR_<NAME> ▸ variables: of the configuration ▸ store
//	secret      secrets: of the configuration (env:, file:, vault:) ▸ Vault below vault.path ▸ store
//	connection  MILLRACE_CONN_<NAME> ▸ connections: of the configuration ▸ store
//
// It guarantees that reading a variable does not block: what the store has is in memory. A change is committed, with its line of the audit trail,
// before it is seen, so that a crash leaves either the old value or the new one; and there is one writer, the process that schedules. Secrets,
// connections and variables with a sensitive name are encrypted in the store with AES-256-GCM, bound to their kind and name, under the first
// key of the keyring; every key of the ring opens. The key file is written and synced before the first value that needs it.
//
// It does not hide secrets from whoever can read the data directory: the key file is in it, unless secret_key says otherwise. And a secret that an
// attempt was given is in the environment of its process, as the operating system has it.
package vars
