// Package layout holds no code of the program: its test walks the source tree and enforces what the compiler does not — which folder may
// import which, which third-party client lives where, calls that must not be made, and size budgets.
//
// To depart from a rule, write a comment "//layout:allow <rule> <reason>" on the line of the offence or the line above. To change a rule,
// change it here before you change the code.
package layout
