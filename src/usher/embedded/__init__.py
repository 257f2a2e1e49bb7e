"""The embedded LMS: a small Open edX on the libraries the LMS is made of, for development and CI.

Each folder that is named after an app of the platform carries that app's label, model names and
fields, so that code written for the platform's tables finds the same tables here.
"""
