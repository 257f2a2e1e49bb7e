"""The embedded LMS: a small Open edX for development and CI, built on the libraries that the
real LMS uses.

A package named after an app of the platform has that app's label, model names and fields, so
that code written for the platform's tables works here.
"""
