"""The verbs of the administrator. The filter uses nothing of this."""
