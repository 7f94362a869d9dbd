// Package mesos has what a framework and a Mesos master say to each other: the calls and events of the scheduler's v1 HTTP API, the objects in them, and
// RecordIO, which frames the events. It only names and codes; package mesosexec is the framework, package mesossim a master and agents for tests.
//
// The names are those of Apache Mesos 1.11 (include/mesos/v1/scheduler/scheduler.proto and include/mesos/v1/mesos.proto) in its JSON: snake_case,
// enumerations as strings, bytes in base64, 64-bit integers as numbers. Fields that neither of the two packages uses are left out; unknown fields
// are ignored, as Mesos does. An enumeration may be absent where the protocol demands one: Mesos leaves out a value that its v1 API
// does not know.
package mesos
