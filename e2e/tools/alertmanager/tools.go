//go:build tools

// Package tools pins the Alertmanager that the tests send alerts through. From 0.32 its module comes without what its page is
// made of, and does not compile.
package tools

import _ "github.com/prometheus/alertmanager/cmd/alertmanager"
