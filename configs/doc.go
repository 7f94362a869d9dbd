// Package configs composes the configuration: it says which keys exist ([Config]), loads them from defaults, one file, the environment and
// flags, in this order ([Load]), reports all that is wrong with them ([Config.Validate]), and prints the result with where each value came
// from ([Loaded.Show]). The YAML files that ship are in this folder, too.
//
// Loading reads the file and the secrets that it refers to, and nothing else. It never prints a secret.
package configs
