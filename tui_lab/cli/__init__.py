"""The command line: one module for each command, and the options and output they share."""
