package operator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		task scheduler.Task
		want []string
		bad  bool
	}{
		{"argv", scheduler.Task{Run: []string{"a", "b c"}}, []string{"a", "b c"}, false},
		{"shell", scheduler.Task{Shell: "echo 'a b' | wc"}, []string{"sh", "-c", "echo 'a b' | wc"}, false},
		{"both", scheduler.Task{Shell: "x", Run: []string{"y"}}, nil, true},
		{"neither", scheduler.Task{}, nil, true},
		{"no program", scheduler.Task{Run: []string{"", "x"}}, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := All(Options{})["command"].Compile(&tt.task)
			if (err != nil) != tt.bad || !cmp.Equal(got, tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}
