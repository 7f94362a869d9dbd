package spec

import "millrace/scheduler"

// File is one DAG file as it was read last.
type File struct {
	// Name is the path within the DAG directory, with slashes, or the name of a built-in file.
	Name string
	// DAGs have no fault. Faults are those of the file; a fault with a DAG concerns that DAG alone.
	DAGs   []scheduler.DAG
	Faults Errors
	// Warnings are about DAGs, and refuse nothing.
	Warnings []Warning
	// Builtin files come with the program.
	Builtin bool
	// uses are the places where operators of others are named, by DAG.
	uses map[string][]use
}

// Set is all DAG files as they are now, by name.
type Set struct {
	Files []File
	// Partial says that files may be missing from the set because the directory could not be read: their DAGs are not gone.
	Partial bool
}
