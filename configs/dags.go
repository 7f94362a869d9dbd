package configs

import _ "embed"

// DemoDAG is the DAG file of `millrace dev`.
//
//go:embed dags/demo.yaml
var DemoDAG []byte
