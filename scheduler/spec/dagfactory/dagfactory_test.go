package dagfactory

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/scheduler/spec"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden fixes what files become, and what is said of them.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil || len(files) < 2 {
		t.Fatalf("got %v, %v, want files", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dags, findings, err := Convert(filepath.Base(file), src, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for _, d := range dags {
				fmt.Fprintf(&got, "--- # %s, lost %v\n%s", d.ID, d.Lost, d.Text)
				if compiled, err := spec.Compile(d.ID, d.Text); err != nil || len(compiled) != 1 || compiled[0].ID != d.ID {
					t.Errorf("%s does not compile: %v", d.ID, err)
				}
			}
			got.WriteString("=== findings\n")
			for _, f := range findings {
				fmt.Fprintf(&got, "%s %s\n", f.Kind, f)
			}
			golden := strings.TrimSuffix(file, ".yml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", got.Bytes(), want)
			}
		})
	}
}

// one converts a file with one DAG, d, that has the lines below it.
func one(t *testing.T, lines string) (DAG, []Finding) {
	t.Helper()
	src := "d:\n  " + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n  ") + "\n"
	dags, findings, err := Convert("f.yml", []byte(src), nil)
	if err != nil || len(dags) != 1 {
		t.Fatalf("convert %s: %d DAGs, %v", src, len(dags), err)
	}
	return dags[0], findings
}

const aTask = "\ntasks:\n  t: {operator: BashOperator, bash_command: x}"

func TestSchedule(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, lines, want, lost string }{
		{"cron", `schedule: "5 4 * * 1-5"`, "cron: 5 4 * * 1-5", ""},
		{"preset", `schedule: "@weekly"`, `cron: "@weekly"`, ""},
		{"none", `schedule: None`, "", ""},
		{"once", `schedule: "@once"`, "", "dags trigger"},
		{"timetable", "schedule: {__type__: airflow.timetables.trigger.CronTriggerTimetable, cron: 0 1 * * *, timezone: Asia/Tokyo}", "timezone: Asia/Tokyo", ""},
		{"20 minutes", "schedule: {__type__: datetime.timedelta, minutes: 20}", `cron: "*/20 * * * *"`, ""},
		{"value", "schedule: {type: timedelta, value: {days: 1}}", "cron: 0 0 * * *", ""},
		{"7 minutes", "schedule: {__type__: datetime.timedelta, minutes: 7}", "", "every 7m"},
		{"relative", "schedule: {__type__: dateutil.relativedelta.relativedelta, months: 1}", "", "timetable"},
		{"datasets", "schedule: [a, b]", "", "batches of a source"},
		{"six fields", `schedule: "0 0 4 * * *"`, "", "five fields"},
		{"zone of the start", "timezone: UTC\nschedule: 0 1 * * *\ndefault_args: {start_date: 2025-01-01, timezone: Europe/Paris}", "timezone: Europe/Paris", ""},
	} {
		d, findings := one(t, tt.lines+aTask)
		text := string(d.Text)
		if tt.lost == "" && (d.Lost || !strings.Contains(text, tt.want) || tt.want == "" && strings.Contains(text, "on:")) {
			t.Errorf("%s: got\n%s%v\nwant %q", tt.name, text, findings, tt.want)
		}
		if tt.lost != "" && (!d.Lost || !slices.ContainsFunc(findings, func(f Finding) bool { return f.Kind == Loss && strings.Contains(f.Why, tt.lost) })) {
			t.Errorf("%s: got %v, want a loss with %q", tt.name, findings, tt.lost)
		}
	}
}

// TestTemplates: a template is replaced by a variable where a shell reads one, with its value as one word.
func TestTemplates(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		`run {{ params.a }}`:              `run "${PARAM_A}"`,
		`run "x {{params.a}} y"`:          `run "x ${PARAM_A} y"`,
		`run "it's {{ params['a'] }}"`:    `run "it's ${PARAM_A}"`,
		`run \"{{ dag_run.conf.a }}`:      `run \""${PARAM_A}"`,
		`run '$x' {{ params.a }}`:         `run '$x' "${PARAM_A}"`,
		`run '{{ params.a }}'`:            "",
		`run {{ params.b }}`:              "",
		`run {{ ds }}`:                    "",
		`run {{ var.value.x }}`:           "",
		`{% if x %} run {% endif %}`:      "",
		`run {{ ti.xcom_pull("a") }} end`: "",
	} {
		b := &builder{params: []string{"a"}}
		got, _, err := b.untemplate(command)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: got %s, %v, want %s", command, got, err, want)
		}
	}
}

// TestNothingIsSilent: any key of a DAG, of default_args and of a task is converted, or there is a finding at its line.
func TestNothingIsSilent(t *testing.T) {
	t.Parallel()
	for _, lines := range []string{
		"odd: 1" + aTask, "max_active_runs: some" + aTask, "concurrency: 3" + aTask, "default_args: {odd: 1}" + aTask, aTask + "\n  u: {operator: EmptyOperator, odd: 1}",
		"task_groups: {g: {odd: 1}}" + aTask, "params: {p: [1]}" + aTask, aTask + "\n  u: {operator: EmptyOperator, dependencies: [none]}",
		aTask + "\n  u: {}", "default_args: {retries: many}" + aTask, "default_args: {retry_delay: soon}" + aTask, "end_date: 2026-01-01" + aTask,
		aTask + "\n  u: {operator: BashOperator}", aTask + "\n  u: {operator: PythonOperator, python_callable: 'x y'}",
		aTask + "\n  u: {operator: EmptyOperator, expand: {x: [1]}}", aTask + "\n  u: {operator: BashOperator, expand: {bash_command: x}}",
		aTask + "\n  u: {operator: BashOperator, expand: 1}", aTask + "\n  u: {operator: BashOperator, expand: {bash_command: t.output}}",
		aTask + "\n  u: {operator: BashOperator, bash_command: x, expand: {bash_command: [y]}}", aTask + "\n  u: {operator: BashOperator, expand: {cwd: [y]}}",
		aTask + "\n  u: {operator: PythonOperator, python_callable: a.b, expand: {op_args: [[+t]]}}",
		aTask + "\n  u: {operator: PythonOperator, python_callable: a.b, expand: {retries: [1]}}",
		aTask + "\n  u: {decorator: airflow.sdk.task.branch, python_callable: a.b}", aTask + "\n  u: {decorator: airflow.sdk.task, python_callable: a.b, x: +t}",
		aTask + "\n  u: {operator: TriggerDagRunOperator}", aTask + "\n  u: {operator: TriggerDagRunOperator, trigger_dag_id: e, conf: x}",
		aTask + "\n  u: {operator: TriggerDagRunOperator, trigger_dag_id: e, odd: x}", aTask + "\n  u: {operator: TriggerDagRunOperator, trigger_dag_id: d}",
		aTask + "\n  u: {operator: EmptyOperator, trigger_rule: odd}", aTask + "\n  u: {operator: EmptyOperator, on_success_callback: x}",
	} {
		if d, findings := one(t, lines); !d.Lost {
			t.Errorf("%s: got %v, want a loss", lines, findings)
		}
	}
	for _, key := range []string{"default_view: tree", "catchup: false", "max_active_tasks: null", "doc_md: x"} {
		if d, findings := one(t, key+aTask); d.Lost {
			t.Errorf("%s: got %v, want no loss", key, findings)
		}
	}
}

// TestDefaultsBeside: what a defaults.yml says is below what the file says.
func TestDefaultsBeside(t *testing.T) {
	t.Parallel()
	src := "default:\n  default_args: {owner: file}\nd:" + strings.ReplaceAll(aTask, "\n", "\n  ") + "\n"
	beside := "schedule: 0 3 * * *\ntags: [all]\nmax_active_tasks: 2\ndefault_args: {owner: beside, retries: 4}\n"
	dags, findings, err := Convert("f.yml", []byte(src), []byte(beside))
	if err != nil {
		t.Fatal(err)
	}
	text := string(dags[0].Text)
	for _, want := range []string{"owner: file", "limit: 4", "cron: 0 3 * * *", "- all"} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant %q", text, want)
		}
	}
	if len(findings) != 1 || findings[0].File != "defaults.yml" || findings[0].Line != 3 {
		t.Errorf("got %v, want max_active_tasks of line 3 of defaults.yml", findings)
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m", 1500 * time.Millisecond: "1.5s", 10 * time.Hour: "10h", 20 * time.Minute: "20m"} {
		if got := short(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

// TestBadFiles end in an error that names file and line, and in bounded time.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x]\n")
	for i := range 40 {
		fmt.Fprintf(&bomb, "a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	for name, src := range map[string]string{
		"syntax": "a:\n  b: [1\nc: }\n", "list": "- a\n", "large": strings.Repeat("# x\n", maxBytes), "bomb": bomb.String(),
		"loop": "a: &a {b: *a}\n", "deep": "a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200),
	} {
		if _, _, err := Convert("f.yml", []byte(src), nil); err == nil || !strings.Contains(err.Error(), "f.yml") {
			t.Errorf("%s: got %v, want an error that names the file", name, err)
		}
	}
	if dags, findings, err := Convert("f.yml", nil, nil); err != nil || len(dags) != 0 || len(findings) != 1 {
		t.Errorf("empty: got %v, %v, %v, want a finding", dags, findings, err)
	}
}

func FuzzConvert(f *testing.F) {
	for _, file := range []string{"shop", "platform", "mapped"} {
		src, err := os.ReadFile("testdata/" + file + ".yml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		dags, findings, err := Convert("f.yml", src, nil)
		if err != nil {
			return
		}
		for _, d := range dags {
			if d.Text == nil && !d.Lost {
				t.Errorf("%s is neither written nor lost: %v", d.ID, findings)
			}
			if _, err := spec.Compile("f.yaml", d.Text); d.Text != nil && err != nil {
				t.Errorf("%s does not compile: %v\n%s", d.ID, err, d.Text)
			}
		}
	})
}
