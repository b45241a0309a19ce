"""The DNS records of keys: compute, look up, compare with the keys, and publish."""
