"""The verbs: their options and their output."""
