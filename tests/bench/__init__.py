"""What `make bench` measures. Nothing here is a test; nothing asserts on time."""
