"""``dkimpipe verify``: the filter for mail that comes in, which tells whose signatures are good."""
