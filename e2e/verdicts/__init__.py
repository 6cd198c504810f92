"""Rules that judge a canary, side by side: `make bench-analysis`. Needs no cluster; the numbers are drawn, with fixed seeds."""
