// Package archive moves the history of runs from the store to the object store.
//
//	_millrace/archive/dt=<day>/<first>-<last>.ndjson.gz
//
// An object has runs that ended on one day, in the order of their ends, one JSON document a line: see [Record]. first and last are ids of runs. Only
// days that are over are archived, so that a round that is broken off and begun anew cuts the same runs into the same objects.
//
// A round goes through these steps for each object; what is left when the process stops behind one of them:
//
//  1. The runs are read, with the ends of their logs, and the object is put if absent. Behind it: the next round makes the same object and finds
//     it there. If it is not the same, because somebody cleared one of its runs meanwhile, the next one has another name, and some runs are in both.
//  2. The store forgets, in transactions of a few rows, those of the runs that are still as they were read. What changed in between stays, and is
//     archived again when its time has come. Behind it: they are known by their ids, with the object's key, and have rows left.
//  3. What the executors keep of them is removed, logs first. Then the rows that are left are removed, so many at a time that no writer waits for
//     long. Behind it, or anywhere within: the next round begins with this step.
//
// So a run is in the store or in an object, or for a moment in both, and never in neither. Without an object store, or if it can not be written
// to, nothing is forgotten unless it was asked for that ([Options.Drop]).
package archive
