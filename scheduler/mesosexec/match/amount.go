package match

import (
	"fmt"
	"math"
	"strconv"
)

// Amount is an amount of a resource in thousandths: Mesos keeps three decimals of a scalar.
type Amount int64

// One is an amount of one.
const One Amount = 1000

// maxAmount is above what any cluster has, and such that sums of a million of them do not overflow.
const maxAmount = 1 << 42 * float64(One)

// Offered returns what a scalar of an offer stands for: Mesos rounds to the nearest thousandth. What is no amount is none.
func Offered(v float64) Amount {
	if math.IsNaN(v) || v <= 0 {
		return 0
	}
	return Amount(math.Round(min(v*float64(One), maxAmount)))
}

// Wanted returns the least amount that is enough for v: a ten-thousandth is not nothing.
func Wanted(v float64) Amount {
	const noise = 1e-6 // of v * 1000 in floating point
	if math.IsNaN(v) || v <= 0 {
		return 0
	}
	return Amount(math.Max(1, math.Ceil(min(v*float64(One), maxAmount)-noise)))
}

// Float returns the amount as messages of Mesos have it.
func (a Amount) Float() float64 { return float64(a) / float64(One) }

// String returns the amount with as many decimals as it needs.
func (a Amount) String() string { return strconv.FormatFloat(a.Float(), 'f', -1, 64) }

// MarshalJSON writes the amount as people know it: 500 thousandths are 0.5.
func (a Amount) MarshalJSON() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalJSON reads what MarshalJSON writes.
func (a *Amount) UnmarshalJSON(text []byte) error {
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("read an amount: %w", err)
	}
	*a = Amount(math.Round(v * float64(One)))
	return nil
}
