"""One module per command, each light to import: what is heavy comes in when its command runs."""
