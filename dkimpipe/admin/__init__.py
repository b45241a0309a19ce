"""The commands for the administrator. The filter imports none of this."""
