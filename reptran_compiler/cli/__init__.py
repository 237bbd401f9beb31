"""The command line, `reptran-compile`."""
