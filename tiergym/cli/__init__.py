"""The command line: one file per group of commands, the options they share, progress bars, the doctor.

The only floor that knows of all others. Each command imports what it needs when it runs.
"""
