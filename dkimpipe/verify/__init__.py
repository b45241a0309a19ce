"""``dkimpipe verify``: the filter that verifies incoming mail."""
