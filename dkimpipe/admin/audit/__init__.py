"""What left this server unsigned, according to Postfix's log."""
