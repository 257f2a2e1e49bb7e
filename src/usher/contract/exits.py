"""Exit codes of the ``usher`` commands."""

#: Everything was done, and nothing is wrong.
DONE = 0
#: The command ran, and something failed, differs or was refused.
FAILED = 1
#: The command could not run and changed nothing: a wrong option, or something that it needs is
#: missing.
NOT_RUN = 2
#: Nothing failed, and a step remains for a person, or something essential could not be checked.
UNFINISHED = 3
#: Ctrl-C, as in shells.
INTERRUPTED = 130
