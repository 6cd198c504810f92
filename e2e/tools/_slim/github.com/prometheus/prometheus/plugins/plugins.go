// Package plugins has Prometheus discover its targets in Kubernetes and nowhere else.
package plugins

import _ "github.com/prometheus/prometheus/discovery/kubernetes"
