// Package operator turns tasks into commands. A task that has `run` is the command that it names; every other kind is a command of this
// program ("millrace op http") whose settings travel in one variable of its environment, [Variable]:
//
//	DAG file ──▶ scheduler.Task ──▶ Settings (expressions evaluated, values escaped for their place) ──▶ Envelope in the environment
//	                               Compile ──▶ argv: millrace op <kind>                               ──▶ packages http, wait, sql
//
// So whatever executes commands executes operators: they have the log, the retries, the timeouts and the recovery of any task, and a crash
// of the scheduler leaves them alone. What an attempt did when it is killed is the same question as for any task: see each package.
//
// Operators are pure: equal tasks give equal commands, and nothing is looked up, so a compiled task can be shown before it runs. Nothing
// secret is in argv. Settings name secrets (env:NAME, file:PATH); [Secret] looks them up where the task runs.
package operator
