// Package api is the console: the JSON API under /api/v1 that openapi.yaml describes, a status page that works without scripts, and the open
// routes /metrics, /livez and /readyz.
//
// It guarantees that nothing but the open routes answers without the console's token (as a bearer, or as the session cookie that the login
// link sets), that it answers only to its own host names, that no other site can make a browser change anything, and that an error is a
// problem document with a stable code and no internal text. It decides nothing and stores nothing: what it shows is the store's, the chain's
// and the executors', and what it is asked to do goes through scheduler.Control, which answers after the change is committed. So stopping it
// at any moment loses nothing; streams end, and their readers resume from the cursor or the offset that they were given last.
//
//	request ▸ host ▸ origin ▸ token ▸ route ──▶ Store, Control     what is known, what is asked for
//	                                       ├──▶ Catalogue, Objects  chain, rows, sidecars
//	                                       └──▶ Executor.Log        output as it comes
//
// It does not encrypt: it listens on a loopback address, or is told that something before it does.
package api
