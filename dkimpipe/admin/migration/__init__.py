"""Coming over from other signers: their configuration, read and expressed in dkimpipe's files."""
