"""The DNS records of keys: made, looked up, compared with the keys, and published."""
