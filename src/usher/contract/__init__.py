"""Facts that the application and the LMS share: paths, names, limits, payloads, signatures.

Pure Python: it runs in the application, in the LMS, in Tutor's environment and in a shell.
"""
