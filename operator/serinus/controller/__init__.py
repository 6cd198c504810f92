"""kopf's handlers and the loop: the only room that watches, writes and reads the clock."""
