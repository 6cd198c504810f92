"""What is delivered: one file a workload kind, and the objects that accompany it."""
