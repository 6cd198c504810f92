"""What others are told: CDEvents for whoever measures delivery, Kubernetes events for whoever looks at the cluster."""
