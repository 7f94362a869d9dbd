package main

import (
	"github.com/spf13/cobra"

	"millrace/scheduler/spec"
)

func newDAGsSchema(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of DAG files, for editors", Args: exactArgs(0),
		Long: `Print the JSON Schema of DAG files. Editors that know it complete keys, say what they mean and mark faults:

  millrace dags schema > dag.schema.json

and, as the first line of a DAG file:

  # yaml-language-server: $schema=dag.schema.json

A running server has the schema of its own version at /api/v1/dags/schema, for those with its token.`,
		RunE: func(*cobra.Command, []string) error {
			schema, err := spec.Schema()
			if err != nil {
				return err
			}
			_, err = g.out.Write(schema)
			return err
		},
	}
}
