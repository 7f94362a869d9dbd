// Package output keeps what tasks put out that is too large for a row, and holds outputs against their schemas.
//
//	_millrace/outputs/dt=<day>/<attempt>-<first 16 hex digits of the SHA-256>.json
//
// The object is put before the report that names it is given to the engine, so a row never names an object that is not there. Its key has the
// attempt: an object belongs to one attempt, and is named by that attempt's task and by those that took its output from the cache. An attempt
// whose report comes twice is put again, under the same key, or under that of another day. So there may be objects that no row names, of
// attempts whose results did not count, and of days on which a report was repeated. [Store.Sweep] removes what is older than a given day and is
// named by nobody. It remembers nothing, so stopping anywhere only puts it off. What it asks for is asked after the object is known to be
// old, and nothing begins to name an old object but a task that takes a cached output, whose entry names it before and for a day after.
package output
