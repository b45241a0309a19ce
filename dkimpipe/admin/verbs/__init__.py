"""The verbs: the options of each, and what it prints."""
