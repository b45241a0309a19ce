"""What receivers report about mail in our name: DMARC aggregate reports and SMTP TLS reports."""
