"""Who splits the traffic: one file a router."""
