"""SELinux: what its policy allows the filter, and sendmail(1) after it."""
