"""What shows and measures the whole system from outside: a real server, real bytes, real HTTP."""
