// Package drivertest is the suite that every network driver passes, the fake included.
package drivertest
