package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newDocs writes the reference of all commands. It is for whoever changes a command; a test compares what is committed.
func newDocs(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "docs DIRECTORY", Short: "Write the reference of all commands as Markdown", Hidden: true, Args: exactArgs(1),
		Example: "  millrace docs docs/cli",
		RunE: func(_ *cobra.Command, args []string) error {
			for name, page := range reference(newRoot(g.streams)) {
				if err := os.WriteFile(filepath.Join(args[0], name), page, 0o644); err != nil {
					return fmt.Errorf("write reference: %w", err)
				}
			}
			return nil
		},
	}
}

// reference returns the pages by name: one for each command of the first level, and an index.
func reference(root *cobra.Command) map[string][]byte {
	root.InitDefaultCompletionCmd("reference") // what Execute adds
	root.InitDefaultHelpCmd()
	pages := map[string][]byte{}
	var index bytes.Buffer
	fmt.Fprintf(&index, "# Commands\n\n%s\n\n| command | does |\n|---|---|\n", generated)
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		var page bytes.Buffer
		fmt.Fprintf(&page, "# millrace %s\n\n%s\n", c.Name(), generated)
		walk(c, func(c *cobra.Command) {
			if !c.Hidden {
				describe(&page, c)
			}
		})
		pages[c.Name()+".md"] = page.Bytes()
		fmt.Fprintf(&index, "| [`millrace %s`](%s.md) | %s |\n", c.Name(), c.Name(), c.Short)
	}
	fmt.Fprintf(&index, "\n## Flags that every command has\n\n%s\n## Exit codes\n\n%s\n", flagTable(root.PersistentFlags()), exitCodes())
	pages["README.md"] = index.Bytes()
	return pages
}

const generated = "<!-- Written by `make docs` from the program; change the command, not this page. -->"

// describe writes one command's section.
func describe(w *bytes.Buffer, c *cobra.Command) {
	if c.HasParent() && c.Parent().HasParent() {
		fmt.Fprintf(w, "\n## %s\n", c.CommandPath())
	}
	fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(escape(longest(c))))
	if c.Runnable() && !c.HasSubCommands() {
		fmt.Fprintf(w, "\n```\n%s\n```\n", c.UseLine())
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(w, "\nAlso: `%s`\n", strings.Join(c.Aliases, "`, `"))
	}
	if c.Example != "" {
		fmt.Fprintf(w, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
	}
	if table := flagTable(c.LocalFlags()); table != "" {
		fmt.Fprintf(w, "\n%s", table)
	}
}

// longest is the long text of a command, which starts with what the short one says, or the short one.
func longest(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

// flagTable lists flags, or is "".
func flagTable(set *pflag.FlagSet) string {
	var b strings.Builder
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		usage := f.Usage
		if def := f.DefValue; def != "" && def != "false" && def != "[]" && def != "0" && !strings.Contains(usage, "default") {
			usage += fmt.Sprintf(" (default %s)", def)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, f.Value.Type(), strings.ReplaceAll(escape(usage), "|", "\\|"))
	})
	if b.Len() == 0 {
		return ""
	}
	return "| flag | type | meaning |\n|---|---|---|\n" + b.String()
}

// escape keeps Markdown from taking placeholders for tags.
func escape(text string) string {
	return strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(text)
}
