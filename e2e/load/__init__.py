"""Load on a service in the cluster, bounded in rate and time."""
