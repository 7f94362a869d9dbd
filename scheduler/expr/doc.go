// Package expr is the expression language of DAG files: CEL, type-checked when the file is loaded. It has three scopes.
//
//	rule scope   `if` and `key` of a rule                                    batch
//	task scope   `when`, and ${{ … }} in values of env and elements of run   params trigger run batch batches inputs totals tasks vars secrets conns
//	item scope   the same in a mapped task                                   those, the item by its name, and map
//
// It guarantees that a compiled expression ends (CEL has no loops, and costs are bounded), has no side effects, and sees the same values
// for every try of a task, except for what `vars`, `secrets` and `conns` have, which people may change in between. It does not guarantee a value: a missing key or an overflow is an error of that evaluation.
//
// Variables have the names of the JSON documents: `batch` is a batch as the API shows it (the oldest one of the run), `batches` all of them
// oldest first, `trigger`, `run`, `totals` and `params` are as in the input document of the task contract, and `tasks.<id>` has `state`,
// `exit` and `output` of a task that comes earlier, and, if that is mapped, `count`, `succeeded`, `failed` and `skipped` of its items. Numbers of different types may be compared; arithmetic needs one type, as always in CEL.
//
// `vars.NAME` is a variable of the installation, `secrets.NAME` a secret and `conns.NAME.host` a field of a connection. Their names have to stand in the
// expression, so that it is known what a version uses; and a secret has to be a whole expression: what is made of one could not be masked.
package expr
