"""dkimpipe: a Postfix pipe filter that signs mail with DKIM and historic DomainKeys."""

__version__ = "0.1.0"
