package notify

import (
	"fmt"
	"strings"

	"millrace/scheduler"
)

// message is what an incoming webhook of Slack takes; text is what shows in notifications and where blocks can not.
//
// Source: Slack's documentation, "Sending messages using incoming webhooks" and "Block Kit reference": at most 50 blocks, text objects of at most
// 3000 characters; & < > are control characters and are written as entities.
type message struct {
	Text   string  `json:"text"`
	Blocks []block `json:"blocks"`
}

type block struct {
	Type     string     `json:"type"`
	Text     *slackTxt  `json:"text,omitempty"`
	Elements []slackTxt `json:"elements,omitempty"`
}

type slackTxt struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// maxSlackText bounds a text object, in bytes, which are no fewer than its characters.
const maxSlackText = 2900

var slackEntities = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// escape writes text that is not ours, cut to a number of bytes.
func escape(text string, most int) string {
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " …"
	}
	return slackEntities.Replace(text)
}

func link(url, text string) string {
	if url == "" {
		return escape(text, 200)
	}
	return "<" + slackEntities.Replace(url) + "|" + strings.ReplaceAll(escape(text, 200), "|", "/") + ">"
}

func section(text string) block {
	return block{Type: "section", Text: &slackTxt{"mrkdwn", text}}
}

// slackMessage says in a few lines what happened.
func slackMessage(b *scheduler.NoticeBody) *message {
	icon := map[string]string{
		scheduler.OnSuccess: ":white_check_mark:", scheduler.OnFailure: ":x:", scheduler.OnRetry: ":repeat:", scheduler.OnDeadline: ":hourglass:",
		scheduler.OnTest: ":wave:",
	}[b.Event]
	if icon == "" {
		icon = ":no_entry_sign:"
	}
	m := &message{Text: escape(headline(b)+reasonOf(b), 1000)}
	subject := headlineOf(b, link(b.URL, b.DAG))
	if b.DAG == "" {
		subject = escape(headline(b), 300)
	}
	m.Blocks = append(m.Blocks, section(icon+" *"+subject+"*"+escape(reasonOf(b), 1500)))
	var lines []string
	size := 0
	for i := range b.Failed {
		t := &b.Failed[i]
		line := fmt.Sprintf("• %s, try %d: %s", link(t.Log, t.Task), t.Try, escape(t.Reason, 250))
		if size += len(line); size > maxSlackText {
			break
		}
		lines = append(lines, line)
	}
	if more := b.FailedTasks - len(lines); more > 0 && len(lines) > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	if len(lines) > 0 {
		m.Blocks = append(m.Blocks, section(strings.Join(lines, "\n")))
	}
	var facts []string
	if b.Run != "" {
		facts = append(facts, "run "+escape(b.Run, 100))
	}
	if b.Batches > 0 {
		facts = append(facts, fmt.Sprintf("%d batches, %d events", b.Batches, b.Events))
	}
	if b.Owner != "" {
		facts = append(facts, "owner "+escape(b.Owner, 200))
	}
	facts = append(facts, b.At.UTC().Format("2006-01-02 15:04:05 UTC"))
	m.Blocks = append(m.Blocks, block{Type: "context", Elements: []slackTxt{{"mrkdwn", strings.Join(facts, " · ")}}})
	return m
}

// headline says what happened, without why.
func headline(b *scheduler.NoticeBody) string { return headlineOf(b, b.DAG) }

func headlineOf(b *scheduler.NoticeBody, dag string) string {
	subject := "run of " + dag
	if b.Task != nil {
		subject = "task " + b.Task.Task + " of " + dag
	}
	switch b.Event {
	case scheduler.OnSuccess:
		return subject + " succeeded"
	case scheduler.OnFailure:
		return subject + " failed"
	case scheduler.OnCancelled:
		return subject + " was cancelled"
	case scheduler.OnSkipped:
		return subject + " was skipped"
	case scheduler.OnRetry:
		return subject + " failed, and is tried again"
	case scheduler.OnDeadline:
		what := dag + " missed its deadline"
		if b.Deadline != nil {
			what += fmt.Sprintf(" (%s: %s)", b.Deadline.Rule, b.Deadline.At.UTC().Format("15:04:05 UTC"))
		}
		return what
	}
	return "millrace can reach you: this is a test"
}

// reasonOf is ": " and the reason, or "".
func reasonOf(b *scheduler.NoticeBody) string {
	reason := b.Reason
	if b.Task != nil {
		reason = b.Task.Reason
	}
	if b.Event == scheduler.OnDeadline && b.State != "" {
		state := "the run is " + string(b.State)
		if reason != "" {
			state += ", " + reason
		}
		reason = state
	}
	if reason == "" {
		return ""
	}
	return ": " + reason
}
