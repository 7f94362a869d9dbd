package sdk

import "time"

// BatchRule starts a run for each batch that it selects. Zero fields select everything.
type BatchRule struct {
	// ID names the rule; "" is "batch".
	ID string
	// Source and Tenant name where batches come from; Types keeps batches that have an event of one of them.
	Source, Tenant string
	Types          []string
	// Quarantine selects batches of events that were set aside, too.
	Quarantine bool
	// If is a CEL expression over `batch`.
	If string
	// Key is a CEL expression: batches of one value are coalesced into one run, as Coalesce says.
	Key      string
	Coalesce Coalesce
	Order    Order
	// OnlyJoined: the rule starts no runs of its own, see [DAG.OnAllOf].
	OnlyJoined bool
	WhenPaused WhenPaused
}

// Coalesce says when a group of batches becomes a run. The zero value does not group.
type Coalesce struct {
	MaxBatches int
	MaxEvents  int64
	// MaxBytes counts stored bytes.
	MaxBytes int64
	// Quiet is how long no batch came, MaxWait how old the first one is.
	Quiet, MaxWait time.Duration
	Mode           Mode
}

// OnBatch adds a rule.
func (d *DAG) OnBatch(r BatchRule) *DAG {
	var batch object
	batch = batch.unless(r.Source == "", "source", r.Source)
	batch = batch.unless(r.Tenant == "", "tenant", r.Tenant)
	batch = batch.unless(len(r.Types) == 0, "types", r.Types)
	batch = batch.unless(!r.Quarantine, "quarantine", true)
	var rule object
	rule = rule.unless(r.ID == "", "id", r.ID).with("batch", batch)
	rule = rule.unless(r.If == "", "if", r.If).unless(r.Key == "", "key", r.Key)
	if c := r.Coalesce; c != (Coalesce{}) {
		var co object
		co = co.unless(c.MaxBatches == 0, "max_batches", c.MaxBatches)
		co = co.unless(c.MaxEvents == 0, "max_events", c.MaxEvents)
		co = co.unless(c.MaxBytes == 0, "max_bytes", c.MaxBytes)
		co = co.unless(c.Quiet == 0, "quiet", c.Quiet.String())
		co = co.unless(c.MaxWait == 0, "max_wait", c.MaxWait.String())
		co = co.unless(c.Mode == "", "mode", c.Mode)
		rule = rule.with("coalesce", co)
	}
	rule = rule.unless(r.Order == "", "order", r.Order).unless(!r.OnlyJoined, "only_joined", true)
	d.on = append(d.on, rule.unless(r.WhenPaused == "", "when_paused", r.WhenPaused))
	return d
}

// JoinRule starts a run when each of some batch rules has a batch of the same key.
type JoinRule struct {
	// ID names the rule; "" is "all_of". AllOf are the ids of the rules.
	ID    string
	AllOf []string
	// Expire is how long a batch waits for the others, 0 for ever.
	Expire     time.Duration
	WhenPaused WhenPaused
}

// OnAllOf adds a rule.
func (d *DAG) OnAllOf(r JoinRule) *DAG {
	var rule object
	rule = rule.unless(r.ID == "", "id", r.ID).with("all_of", r.AllOf).unless(r.Expire == 0, "expire", r.Expire.String())
	d.on = append(d.on, rule.unless(r.WhenPaused == "", "when_paused", r.WhenPaused))
	return d
}

// CronRule starts a run at times of the calendar.
type CronRule struct {
	// ID names the rule; "" is "cron".
	ID string
	// Cron has five fields, read in Timezone (an IANA name; "" is UTC).
	Cron, Timezone string
	// Jitter delays each run by a part of it, the same for the same time; at most 1h.
	Jitter  time.Duration
	Catchup Catchup
}

// Catchup says what becomes of the times of a cron rule that passed while millrace was away. The zero value is a run for each of the last 2h, or
// for the latest before.
type Catchup struct {
	Policy CatchupPolicy
	// Window is how far back times count, at most 31 days; 0 is 2h.
	Window time.Duration
}

// OnCron adds a rule.
func (d *DAG) OnCron(r CronRule) *DAG {
	var rule object
	rule = rule.unless(r.ID == "", "id", r.ID).with("cron", r.Cron).unless(r.Timezone == "", "timezone", r.Timezone)
	rule = rule.unless(r.Jitter == 0, "jitter", r.Jitter.String())
	if c := r.Catchup; c != (Catchup{}) {
		var o object
		o = o.unless(c.Policy == "", "policy", c.Policy).unless(c.Window == 0, "window", c.Window.String())
		rule = rule.with("catchup", o)
	}
	d.on = append(d.on, rule)
	return d
}

// OnManual adds a rule that starts nothing by itself: it names the runs that people start. Any DAG can be started by people without one.
func (d *DAG) OnManual() *DAG {
	d.on = append(d.on, object{{"id", "manual"}, {"manual", true}})
	return d
}
