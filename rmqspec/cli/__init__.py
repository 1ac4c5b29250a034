"""The command line: one file per command. Imports everything, is imported by nothing."""
