package main

import "github.com/spf13/cobra"

// examples are shown in the help and the reference, by command. Commands that say more have theirs beside their code.
var examples = map[string]string{
	"millrace dev": `  millrace dev
  millrace dev --dags dags --data-dir /tmp/try`,
	"millrace serve": `  millrace serve --config /etc/millrace/millrace.yaml
  millrace serve --roles ingest,batch`,
	"millrace batches ls": `  millrace batches ls --source web --limit 5
  millrace batches ls -o json | jq '.[].uri'`,
	"millrace batches show": `  millrace batches show 01M84BPM6ET1WXQZ8VTFBGH5Q9`,
	"millrace batches cat": `  millrace batches cat 01M84BPM6ET1WXQZ8VTFBGH5Q9 | jq .event
  millrace batches cat 01M84BPM6ET1WXQZ8VTFBGH5Q9 --limit 3`,
	"millrace batches tail": `  millrace batches tail --from start -o table
  millrace batches tail --from "$CURSOR" >> batches.jsonl`,
	"millrace where": `  millrace where AS01eWp1a3Nld3J6dm50eWZrZ2h0Ymt3cXhl
  millrace where evt_364fyDH3yd5iMJot8oJmC0DU --since 240h`,
	"millrace log check":       `  millrace log check --data-dir /var/lib/millrace`,
	"millrace log accept-loss": `  millrace log accept-loss --first 120 --last 183 --yes`,
	"millrace dags ls":         `  millrace dags ls -o name`,
	"millrace dags show":       `  millrace dags show load`,
	"millrace dags validate": `  millrace dags validate dags/*.yaml
  millrace dags validate dags/load.yaml -o json`,
	"millrace dags schema": `  millrace dags schema > dag.schema.json`,
	"millrace dags trigger": `  millrace dags trigger load --param day=2026-11-23 --wait
  millrace dags trigger load --id nightly-2026-11-23`,
	"millrace dags pause": `  millrace dags pause load rollup
  millrace dags ls -o name | xargs millrace dags pause`,
	"millrace dags unpause": `  millrace dags unpause load`,
	"millrace runs ls":      `  millrace runs ls --dag load --state failed`,
	"millrace runs show":    `  millrace runs show r7x3k5q2m4n6p`,
	"millrace runs logs":    `  millrace runs logs -f r7x3k5q2m4n6p --task extract`,
	"millrace runs wait": `  millrace runs wait r7x3k5q2m4n6p --timeout 10m
  millrace runs wait "$(millrace dags trigger load -o name)" && echo loaded`,
	"millrace explain run": `  millrace explain run r7x3k5q2m4n6p`,
	"millrace explain task": `  millrace explain task r7x3k5q2m4n6p/load
  millrace explain task r7x3k5q2m4n6p/load -o json | jq .why.on`,
	"millrace explain batch": `  millrace explain batch 01M84BPM6ET1WXQZ8VTFBGH5Q9`,
	"millrace notify ls": `  millrace notify ls --state dead
  millrace notify ls --run r7x3k5q2m4n6p`,
	"millrace notify status": `  millrace notify status`,
	"millrace notify test":   `  millrace notify test ops`,
	"millrace notify retry": `  millrace notify retry nq3h5m7x2k4p6r
  millrace notify ls --state dead -o name | xargs millrace notify retry`,
	"millrace pools ls":    `  millrace pools ls`,
	"millrace runs cancel": `  millrace runs cancel r7x3k5q2m4n6p`,
	"millrace replay": `  millrace replay r7x3k5q2m4n6p --wait
  millrace runs ls --dag load --state failed -o name | xargs millrace replay --pin latest`,
	"millrace backfill ls":     `  millrace backfill ls --state running`,
	"millrace backfill show":   `  millrace backfill show nightly-fix --limit 1000`,
	"millrace backfill wait":   `  millrace backfill wait nightly-fix --timeout 1h`,
	"millrace backfill pause":  `  millrace backfill pause nightly-fix`,
	"millrace backfill resume": `  millrace backfill resume nightly-fix`,
	"millrace backfill cancel": `  millrace backfill cancel nightly-fix --runs`,
	"millrace verify":          `  millrace verify`,
	"millrace bench ingest":    `  millrace bench ingest --duration 30s --baseline`,
	"millrace bench e2e":       `  millrace bench e2e --tries 500 -o json`,
	"millrace config check":    `  millrace config check --config millrace.yaml`,
	"millrace config show":     `  millrace config show --origin`,
	"millrace config init":     `  millrace config init > millrace.yaml`,
	"millrace config schema":   `  millrace config schema > millrace.schema.json`,
	"millrace version":         `  millrace version -o json`,
}

// exemplify gives commands their examples.
func exemplify(root *cobra.Command) {
	walk(root, func(c *cobra.Command) {
		if c.Example == "" {
			c.Example = examples[c.CommandPath()]
		}
	})
}
